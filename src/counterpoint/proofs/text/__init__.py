"""Proofs of text methods."""
