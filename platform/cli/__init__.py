"""The command line: one module per command, collected by ``main``."""
