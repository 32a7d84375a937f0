"""The engine: one long video, cut in time into clips, one clip a rank. Knows nothing of ComfyUI.

Shape letters, used as suffixes where layout matters (`x_BCFHW`, `q_BNQD`, `frames_FHWC`); a digit is that many (`total_G3`):

    B batch: branches of guidance    C channels    H, W height, width    P pixels (H x W), or some of them
    F frames of this clip            A frames that came from other ranks, E those that came to be a convolution's edges
    T frames of the whole video      (F and T count latent frames in latents, and decoded ones in `frames_FHWC`)
    N heads    Q queries    K keys; in a convolution taps x channels    D width of a head, or of an embedding
    G groups of a norm    X channels x pixels of a group    R ranks    L tokens of a prompt    S prompts; planes of a snapshot

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
