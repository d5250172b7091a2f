"""Analytical models of power dispatch: economic dispatch, DC-OPF, multi-period, commitment."""
