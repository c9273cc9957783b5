"""lastgood: release model versions, watch them, take them back when they go bad."""

import os

# ONNX Runtime's builds for Linux count their use and keep a device id on the disk unless told otherwise before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
