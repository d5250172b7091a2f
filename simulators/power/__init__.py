"""Power dispatch: economic dispatch and balancing of a grid, simulated as discrete events."""
