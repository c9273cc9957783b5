"""A child process that verifies one version, proves it, and computes its answers."""
