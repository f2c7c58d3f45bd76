"""Proofs of multimodal methods."""
