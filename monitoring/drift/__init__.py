"""Drift: whether what comes in and what goes out is still what the version was tested on."""
