"""What is known of answers afterwards: the observer, what it is shown, and what it finds."""
