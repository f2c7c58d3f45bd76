"""Proofs of the methods for graphs and sequences."""
