"""Traffic signals: a spatial queue simulator of streets, and importers of road networks."""
