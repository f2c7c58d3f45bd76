import pytest
import torch
from torch.nn import functional as F

from counterpoint.errors import DataError
from counterpoint.memory.bank import Bank


def test_first_vector_is_stored_and_later_ones_are_mixed_in():
    bank = Bank(4, 2, momentum=0.75)
    x, y = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    bank.update(torch.tensor([3]), x)
    assert torch.equal(bank.look_up(torch.tensor([3])), torch.tensor([[1.0, 0.0]]))
    bank.update(torch.tensor([3]), y)
    assert torch.allclose(bank.look_up(torch.tensor([3])), F.normalize(torch.tensor([[0.75, 0.25]]), dim=1))
    assert bank.seen.tolist() == [False, False, False, True]


def test_a_row_given_twice_counts_once_by_its_mean_in_any_order():
    rows, z = torch.tensor([1, 0, 1]), torch.tensor([[1.0, 0.0], [5.0, 5.0], [0.0, 3.0]])
    one, other = Bank(2, 2, normalize=False), Bank(2, 2, normalize=False)
    one.update(rows, z)
    other.update(rows.flip(0), z.flip(0))
    assert torch.equal(one.vectors, torch.tensor([[5.0, 5.0], [0.5, 1.5]]))
    assert torch.equal(one.vectors, other.vectors)


def test_look_up_is_a_copy_in_the_order_asked():
    bank = Bank(5, 3)
    rows = torch.tensor([4, 0, 4])
    found = bank.look_up(rows)
    assert torch.equal(found, bank.vectors[rows])
    bank.update(torch.arange(5), torch.ones(5, 3))
    assert not torch.equal(found, bank.look_up(rows))


def test_bad_input_is_a_sentence():
    bank = Bank(3, 2)
    with pytest.raises(DataError, match="0 to 3 do not fit a bank of 3"):
        bank.update(torch.tensor([0, 3]), torch.ones(2, 2))
    with pytest.raises(DataError, match="Row 0 of 1"):
        bank.update(torch.tensor([0]), torch.full((1, 2), torch.nan))
    with pytest.raises(DataError, match="2 vectors came with row numbers"):
        bank.update(torch.tensor([0]), torch.ones(2, 2))
    bank.update(torch.zeros(0, dtype=torch.long), torch.zeros(0, 2))
    assert not bank.seen.any()
