"""The only users of torch.distributed (but for the pool's TCPStore): fetch frames, add up moments, agree to stop."""
