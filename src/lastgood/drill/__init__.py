"""Drills: a version that is bad on purpose, released for real in a throwaway place, and the way back timed."""
