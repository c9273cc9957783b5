"""A release's part in serving: a pure table of states, without I/O, read alike by the gateway, tests and `explain`."""
