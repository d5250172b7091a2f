"""What decides and what learns: heuristics, networks, and the learning core."""
