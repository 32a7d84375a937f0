"""What a job is asked of, as the host sees it: model folders, from their JSON and safetensors headers alone."""
