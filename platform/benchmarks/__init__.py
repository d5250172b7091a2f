"""Benches behind ``fairlead bench``: each has ``Options`` and ``run``."""
