"""Bytes, versions and events: which model files exist, where they came from, and everything that happened to them."""
