"""What is told of single requests: their traces, a sample of them as lines of a log, and spans for a collector."""
