"""lastgood: release model versions, watch them, take them back when they go bad."""

__version__ = "0.1.0"
