"""Analytical models: reference states, influence of actions on the state, and bounds."""
