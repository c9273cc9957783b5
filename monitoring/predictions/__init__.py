"""The prediction log: what was asked, what was answered, by which version."""
