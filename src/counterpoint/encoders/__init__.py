"""From views of one modality to embeddings: encoders, pooling, heads, and the folders models live in.

Import what you need from its module, e.g. ``from counterpoint.encoders.text import TextTransformer``.
"""
