"""The Open Inference Protocol's bodies, and what a version takes and gives."""
