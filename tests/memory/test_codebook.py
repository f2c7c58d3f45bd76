import pytest
import torch

from counterpoint.memory.codebook import Codebook


def corners(dead=0.0, decay=0.5):
    book = Codebook(2, 2, decay=decay, dead=dead, eps=0)
    book.weight.copy_(torch.tensor([[0.0, 0.0], [10.0, 10.0]]))
    book.sums.copy_(book.weight)
    return book


def test_rows_become_their_nearest_code_and_gradients_pass_through():
    book = corners()
    z = torch.tensor([[1.0, 2.0], [9.0, 9.0]], requires_grad=True)
    out = book(z)
    assert out.codes.tolist() == [0, 1]
    assert torch.equal(out.vectors.detach(), book.weight)
    assert out.commitment.item() == pytest.approx((1 + 4 + 1 + 1) / 4)
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert torch.equal(torch.autograd.grad((out.vectors * weight).sum(), z)[0], weight)


def test_codes_follow_running_means():
    book = corners()
    book.update(torch.tensor([[2.0, 0.0], [4.0, 0.0]]))
    # counts: (1 + 2) / 2 and 1 / 2; sums: (0 + [6, 0]) / 2 and [10, 10] / 2
    assert torch.allclose(book.mass, torch.tensor([1.5, 0.5]))
    assert torch.allclose(book.weight, torch.tensor([[2.0, 0.0], [10.0, 10.0]]))


def test_dead_codes_restart_at_the_farthest_rows():
    book = corners(dead=0.3, decay=0.5)
    z = torch.tensor([[0.0, 1.0], [0.0, -4.0], [1.0, 0.0]])
    book.update(z)
    assert book.mass[1] == 0.5  # unused once
    book.update(z)
    assert book.weight[1].tolist() == [0.0, -4.0]
    assert book.mass[1] == 1
    assert book.assign(z).tolist() == [0, 1, 0]


def test_codes_settle_on_clusters():
    g = torch.Generator().manual_seed(0)
    centres = 10 * torch.eye(4)
    book = Codebook(4, 4, decay=0.9, seed=3)
    for _ in range(80):
        book.update(centres.repeat(8, 1) + 0.1 * torch.randn(32, 4, generator=g))
    assert torch.cdist(centres, book.weight).amin(1).max() < 0.2
    assert book.perplexity(book.assign(centres)).item() == pytest.approx(4)


def test_perplexity():
    book = Codebook(8, 2)
    assert book.perplexity(torch.zeros(9, dtype=torch.long)).item() == pytest.approx(1)
    assert book.perplexity(torch.arange(8)).item() == pytest.approx(8)


def test_no_rows():
    book = corners()
    book.update(torch.zeros(0, 2))
    assert book.mass.tolist() == [1, 1]
    assert book(torch.zeros(0, 2)).commitment == 0
