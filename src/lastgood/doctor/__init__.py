"""What would fail later, looked for now: the machine, the project, what serves, and what starts releases."""
