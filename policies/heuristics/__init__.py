"""Decision rules of the field, as baselines and fall-backs."""
