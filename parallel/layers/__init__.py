"""Layers that mix frames, made exact over a cut time axis: each equals diffusers' own layer on the whole video."""
