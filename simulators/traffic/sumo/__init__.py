"""SUMO as the other simulator of the same streets: a child process stepped from here."""
