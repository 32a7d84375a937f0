"""The engine: one long video, cut in time into clips, one clip a rank. Knows nothing of ComfyUI.

Shape letters, used as suffixes where layout matters (`x_BCFHW`, `q_BNQD`, `frames_FHWC`):

    B batch     C channels     F frames of this clip     T frames of the whole video     H, W height, width
    N heads     Q queries      K keys                    D head width                    P pixels (B x H x W)
    G groups    R ranks        L tokens of a prompt

Rooms, each of which imports only those to its left:

    maths <- comm <- layers <- models <- sampler <- rank    (one process a device)
    job <- families <- plan <- pool <- cli                  (the host: ComfyUI, or `python -m parallel`)
    job <- families <- wire                                 (what passes between them: the job, and its model as inspected)

    job/        what is asked for: the Job, the prompt timeline, the error tree
    families/   what it is asked of, as the host sees it: folders -> parts, geometry, sizes, memory and messages by formula
    plan.py     what a job will do, before anything runs
    wire/       messages, the channel, shared blocks, snapshots
    pool/       the host's side: start ranks, run a job, watch, stop, keep snapshots
    cli/        the command line
    rank/       a rank's process: serve one job after another, say what went wrong
    sampler/    one job on one rank: load, encode, draw noise, denoise, decode
    models/     what a family is on a rank: which modules mix frames, and how weights are loaded
    layers/     maths and comm behind a module's own signature; put in and taken out by patch.py
    comm/       the only users of torch.distributed, but for the pool's store
    maths/      pure functions on tensors and integers

Read first: sampler/generate.py, maths/scope.py, layers/conv.py, pool/local.py.
"""
