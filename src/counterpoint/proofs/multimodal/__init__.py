"""Proofs of the methods for items of two modalities."""
