"""The only users of torch.distributed (but for the pool's TCPStore): fetch frames and moments, agree between steps, measure the link."""
