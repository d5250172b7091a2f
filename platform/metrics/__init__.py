"""Instruments behind the contract of metrics."""
