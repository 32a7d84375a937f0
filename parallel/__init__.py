"""The engine: one long video, cut in time into clips, one clip a rank. Knows nothing of ComfyUI.

Shape letters, used as suffixes where layout matters (`x_BCFHW`, `q_BNQD`, `frames_FHWC`):

    B batch     C channels     F frames of this clip     T frames of the whole video     H, W height, width
    N heads     Q queries      K keys                    D head width                    P pixels (B x H x W)
    G groups    R ranks        L tokens of a prompt

Layers, each of which imports only those to its left:

    maths <- comm <- layers <- models <- sampler <- rank <- worker    (one process a device)
    errors <- protocol, folder, timeline, wire, frames <- pool    (the host: ComfyUI, or `python -m parallel`)

Read first: sampler/generate.py, maths/scope.py, layers/conv.py, pool/local.py.
"""
