"""The engine: one long video, cut in time into clips, one clip a rank. Knows nothing of ComfyUI.

Shape letters, used as suffixes where layout matters (`x_BCFHW`, `q_BNQD`, `frames_FHWC`); a digit is that many (`total_G3`):

    B batch: branches of guidance    C channels    H, W height, width    P pixels (H x W), or some of them
    F frames of this clip            A frames that came from other ranks, E those that came to be a convolution's edges
    T frames of the whole video      (F and T count latent frames in latents, and decoded ones in `frames_FHWC`)
    N heads    Q queries    K keys; in a convolution taps x channels    D width of a head, or of an embedding
    G groups of a norm    X channels x pixels of a group    R ranks    L tokens of a prompt    S prompts; planes of a snapshot

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
