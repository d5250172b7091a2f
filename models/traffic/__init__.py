"""Analytical models of traffic: store-and-forward control, link transmission, assignment."""
