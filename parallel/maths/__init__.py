"""Pure functions: no ranks, no models, no I/O. What a frame sees, is prompted with and starts from, by its number in the whole video."""
