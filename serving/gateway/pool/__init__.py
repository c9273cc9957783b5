"""One version's queue, its batches, and the replicas that run them."""
