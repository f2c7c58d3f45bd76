"""Windows of a series: steps of time, each with a value of every channel. The rows are steps of one series.

How a table is told to be a series: `counterpoint.data.steps`.
"""

from __future__ import annotations

import numpy as np

from counterpoint.modalities.base import Modality, is_number, is_truth

SERIES = "series"

LENGTH, CHANNELS = 32, 3
"""Of an example."""


def example(rng: np.random.Generator) -> np.ndarray:
    """``(L, C)`` float32: waves of three periods and sizes in noise.

    rng: every draw comes from it.
    """
    at = rng.integers(12) + np.arange(LENGTH)[:, None]
    waves = np.sin(at * 2 * np.pi / np.array([6, 8, 12])) * [1, 5, 0.1]
    window: np.ndarray = (waves + 0.2 * rng.normal(size=waves.shape)).astype(np.float32)
    return window


modality = Modality(
    name=SERIES,
    one="a window of a series",
    many="windows of a series",
    fits=lambda type_: is_number(type_) or is_truth(type_),
    columns="several",
    shape="whole",
    together=4_096,
    then=(
        "counterpoint encode {run} ROWS --out vectors.npy",
        "counterpoint index {run} ROWS && counterpoint search {run} --series FILE  # the file: its last steps",
        "python: from counterpoint.encoders.folder import load; load('{run}/model').forecast(window)  # window: the "
        "last steps, a row for each, a column for each channel",
        "counterpoint export {run} --to onnx --out model.onnx",
    ),
    example=example,
)
