"""Objectives: pure functions from embeddings to losses; `contrast` is the engine's face, `pairing` its grammar."""
