"""What processes of one batch share beside sums: rows of one another by number, and random numbers."""

from __future__ import annotations

import pytest
import torch

from counterpoint.processes import drawing_alike, drawn, fetched, world
from tests.processes import spread

SHARES = {2: (1, 4), 3: (3, 0, 2)}


def draw(n: int) -> torch.Tensor:
    return torch.rand(n, 3)


def rows_and_draws(rank: int, world: int) -> None:
    counts = SHARES[world]
    first, n = sum(counts[:rank]), counts[rank]
    every = torch.arange(10.0).view(5, 2)

    # Rows of others, often the same, and none at all for one of them.
    asked = [torch.tensor([4, 0, 4]), torch.tensor([], dtype=torch.long), torch.tensor([0])][-world:][rank]
    mine = every[first : first + n].clone().requires_grad_()
    found = fetched(mine, asked)
    assert torch.equal(found, every[asked])
    found.backward(torch.full_like(found, float(rank + 1)))
    expected = torch.zeros(5, 2)
    for other, of in enumerate([[4, 0, 4], [], [0]][-world:]):
        for row in of:
            expected[row] += other + 1
    assert torch.equal(mine.grad, expected[first : first + n])

    # What one process would draw; afterwards the first has gone on, the others not.
    torch.manual_seed(7)
    whole, after = draw(5), torch.rand(2)
    torch.manual_seed(7 + rank)
    own = torch.rand(2)
    torch.manual_seed(7 + rank)
    assert torch.equal(drawn(draw, n), whole[first : first + n])
    assert torch.equal(torch.rand(2), after if rank == 0 else own)
    torch.manual_seed(7 + rank)
    with drawing_alike():
        assert torch.equal(draw(5), whole)


@pytest.mark.parametrize("world", [2, 3])
def test_rows_by_number_and_the_random_numbers_of_one_process(world: int) -> None:
    spread(rows_and_draws, world)


def test_one_process_has_its_own_rows_and_numbers() -> None:
    assert world() == 1
    torch.manual_seed(0)
    expected = draw(4)
    torch.manual_seed(0)
    assert torch.equal(drawn(draw, 4), expected)
    torch.manual_seed(0)
    with drawing_alike():
        assert torch.equal(draw(4), expected)
    assert fetched(expected, torch.tensor([2, 2])).tolist() == expected[[2, 2]].tolist()
