"""Methods for items of two modalities at once."""
