"""The engine: one long video, cut in time into clips, one clip a rank. Knows nothing of ComfyUI.

Shape letters, used as suffixes where layout matters (`x_BCFHW`, `q_BNQD`, `frames_FHWC`):

    B batch     C channels     F frames of this clip     T frames of the whole video     H, W height, width
    N heads     Q queries      K keys                    D head width                    P pixels (B x H x W)
    G groups    R ranks        L tokens of a prompt

Rooms, and in brackets all that each imports beside itself (tests/test_import_flow.py):

    maths/      pure functions on tensors and integers []
    job/        what is asked for: the Job, the prompt timeline, the error tree []
    families/   what it is asked of, as the host sees it: folders -> parts, geometry, sizes, memory and messages by formula [maths job]
    plan.py     what a job will do, before anything runs [maths job families]
    wire/       what passes between the host and its ranks: messages, the channel, shared blocks, snapshots [job families]

  the host (ComfyUI, or `python -m parallel`):
    pool/       start ranks, run a job, watch (listen.py), go on without a rank that is lost (local.py), stop [job families wire]
    cli/        the command line [job families plan wire pool]

  a rank (one process a device):
    comm/       the only users of torch.distributed, but for the pool's store [job: its errors]
    layers/     maths and comm behind a module's own signature; put in and taken out by patch.py [maths comm]
    models/     what a family is on a rank: which modules mix frames, and how weights are loaded [maths job families comm layers]
    sampler/    one job on one rank: load, fit into memory, encode, draw noise, denoise, decode
                [maths job families plan wire comm layers models]
    rank/       a rank's process: serve one job after another, say what went wrong [job wire comm sampler]

Law 1, as code and tests call it: the video is a function of the job, not of the ranks. The same job and seed give the same latents
on any number of ranks, but for float noise; nothing reads the rank or their number but to decide which slice to work on.

Read first: sampler/generate.py, maths/scope.py, layers/conv.py, pool/local.py.
"""
