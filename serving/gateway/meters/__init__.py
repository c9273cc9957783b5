"""What the hot path counts, and how Prometheus gets it."""
