"""A bridge to SUMO: signals of a running SUMO are driven by the daemon, as a street's would be."""
