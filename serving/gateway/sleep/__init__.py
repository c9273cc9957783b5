"""Models that nobody asks for, and how they are woken."""
