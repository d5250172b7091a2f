"""The append-only record of every decision, its replay, and the state that survives a restart."""
