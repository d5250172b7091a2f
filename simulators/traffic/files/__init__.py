"""Readers and writers of road networks and demand: SUMO, CityFlow, TNTP."""
