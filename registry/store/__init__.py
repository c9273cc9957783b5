"""Where the bytes are: files cut into segments, each kept once."""
