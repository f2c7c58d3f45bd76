"""From raw rows to a trained, measured, reported encoder: `fit.fit`; and the way back: `models.load`."""
