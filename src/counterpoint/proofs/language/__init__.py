"""Proofs of the methods that train language models."""
