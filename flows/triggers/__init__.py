"""Builds elsewhere, started and followed from here: Jenkins and Prefect."""
