"""The Open Inference Protocol over gRPC, beside the REST port and over the same reception."""
