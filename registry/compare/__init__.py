"""What two versions have in common and what not, from what is stored; neither is run."""
