"""The side of a tile follows the device's table, the request and the budget."""

import pytest
import torch

from counterpoint.errors import ConfigError
from counterpoint.kernels.sizes import BUFFERS, SQUARE, side, tiles

CPU = torch.device("cpu")


def test_table_request_and_budget() -> None:
    assert side(CPU, torch.float32) == 1024
    assert side(CPU, torch.float64) == 1024
    assert side(CPU, torch.float32, tile=7) == 7
    assert side(CPU, torch.float32, tile=512, budget=BUFFERS * 4 * 100**2) == 100
    assert side(CPU, torch.float64, budget=BUFFERS * 8 * 100**2) == 100


def test_compiled_kernels_have_one_buffer() -> None:
    cuda = torch.device("cuda")
    assert side(cuda, torch.float32, square=True) == SQUARE
    assert side(cuda, torch.float32, budget=4 * 100**2, square=True) == 100
    assert side(cuda, torch.float32, tile=64, square=True) == 64


def test_impossible_ones_are_refused() -> None:
    with pytest.raises(ConfigError, match="positive"):
        side(CPU, torch.float32, tile=0)
    with pytest.raises(ConfigError, match="budget"):
        side(CPU, torch.float32, budget=3)


def test_a_side_can_be_set_for_all_calls_inside() -> None:
    before = side(CPU, torch.float32)
    with tiles(96):
        assert side(CPU, torch.float32) == 96
        assert side(CPU, torch.float32, 32) == 32
        with tiles(None):
            assert side(CPU, torch.float32) == before
    assert side(CPU, torch.float32) == before
