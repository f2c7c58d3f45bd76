"""The measurements of a proof: classes by prototypes."""

import numpy as np
import pytest

from counterpoint.data.rowset import Made
from counterpoint.proofs.multimodal.digits import Digits, zero_shot


def test_classes_by_the_mean_of_examples_and_by_one():
    # Ten directions; of each digit two recordings lie on it and one points the other way.
    eye = np.eye(10, dtype=np.float32)
    found = Digits(Made([]), [], np.arange(10), np.concatenate([eye, 3 * eye, -eye]), np.tile(np.arange(10), 3))
    result = zero_shot(eye, found, draws=400)
    assert result["accuracy by mean prototypes"] == 1
    assert result["accuracy by one example"] == pytest.approx(2 / 3, abs=0.05)
    assert result["accuracy by one example, 5th percentile"] <= 0.5
