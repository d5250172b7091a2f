"""The live controller daemon: a thin shell around the decision core."""
