"""Methods that learn from labels, of any modality."""
