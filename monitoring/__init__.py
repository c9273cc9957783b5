"""The judge that decides from counts, and the signals that other systems read."""
