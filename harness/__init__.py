"""What tests and benchmarks both use: tiny models, ranks to work on, a real ComfyUI, faults, hostile inputs, memory. Never shipped."""
