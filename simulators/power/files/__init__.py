"""Readers of published power systems and their series; every one makes a grid or a series."""
