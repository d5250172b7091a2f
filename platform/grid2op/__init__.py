"""A bridge to Grid2Op: its environments are driven by the daemon, as a real system would be."""
