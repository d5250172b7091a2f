"""Discrete-event simulators, their scenarios and importers, and conformance checks."""
