"""What passes between the host and its ranks: messages, the channel, shared blocks, snapshots."""
