"""Proofs: for each method the smallest honest experiment that can contradict it; FAMILY/NAME.py, as in `methods`."""
