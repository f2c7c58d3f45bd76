"""Proofs of the methods for sound and time series."""
