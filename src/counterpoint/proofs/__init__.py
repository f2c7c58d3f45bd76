"""Proofs: the smallest honest experiment for each method, mirroring `methods/`."""
