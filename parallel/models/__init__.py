"""Which modules of a diffusers model mix frames: a table per family, no retyped forwards."""
