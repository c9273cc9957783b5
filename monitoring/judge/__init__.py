"""The judge: from counts to a verdict that may be looked at after every request."""
