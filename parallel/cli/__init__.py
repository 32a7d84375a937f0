"""`python -m parallel`: the engine without ComfyUI."""
