"""A simulator in closed loop with the daemon, over the wire, with faults."""
