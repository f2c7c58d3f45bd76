"""Data sets known by name, and how their local copies are read."""
