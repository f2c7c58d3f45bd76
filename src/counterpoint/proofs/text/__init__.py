"""Proofs of the methods that embed texts."""
