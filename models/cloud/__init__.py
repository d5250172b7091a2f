"""Models of job dispatching and batch scheduling."""
