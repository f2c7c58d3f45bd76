"""What a causal language model writes: ways to choose the next token, and texts in, texts out.

Every decoder takes a model and prefixes as token ids, and gives the new tokens of each, without the one that ends it.
"""
