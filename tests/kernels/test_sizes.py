"""The side of a tile follows the device's table, the request and the budget."""

import pytest
import torch

from counterpoint.errors import ConfigError
from counterpoint.kernels.sizes import BUFFERS, side

CPU = torch.device("cpu")


def test_table_request_and_budget() -> None:
    assert side(CPU, torch.float32) == 1024
    assert side(CPU, torch.float64) == 1024
    assert side(CPU, torch.float32, tile=7) == 7
    assert side(CPU, torch.float32, tile=512, budget=BUFFERS * 4 * 100**2) == 100
    assert side(CPU, torch.float64, budget=BUFFERS * 8 * 100**2) == 100


def test_impossible_ones_are_refused() -> None:
    with pytest.raises(ConfigError, match="positive"):
        side(CPU, torch.float32, tile=0)
    with pytest.raises(ConfigError, match="budget"):
        side(CPU, torch.float32, budget=3)
