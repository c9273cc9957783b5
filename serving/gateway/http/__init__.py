"""HTTP/1.1 by rules of our own."""
