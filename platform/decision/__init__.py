"""The decision core: a pure function from what is observed to what is done, and why."""
