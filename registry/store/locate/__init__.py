"""Where the tensors of a file lie, by its format."""
