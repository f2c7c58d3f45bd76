"""The measure of a proof: texts of a class find each other."""

from __future__ import annotations

import numpy as np
import pytest

from counterpoint.proofs.text.moe_embeddings import _precision


def test_precision_by_hand() -> None:
    z = np.array([[1.0, 0.0], [0.9, 0.1], [0.8, 0.3], [0.0, 1.0]])
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    classes = np.array(["x", "y", "x", "z"])
    # The first finds its like second; the third finds it second too; the others have none.
    assert _precision(z, classes) == pytest.approx(0.5)
