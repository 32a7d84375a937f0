"""Measurements, one claim a file, each runnable alone: `python -m benchmarks.NAME`."""
