"""The steps in order, as Prefect flows."""
