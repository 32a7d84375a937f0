"""What a job is asked of, as the host sees it: model folders, read from JSON and safetensors headers alone; a file a family."""
