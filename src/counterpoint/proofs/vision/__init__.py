"""Proofs of the methods that embed images."""
