from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from counterpoint.kernels import attention as module
from counterpoint.kernels.attention import attention

SORTED = (9, 9, 8, 5, 5, 5, 3, 1)
MIXED = (2, 7, 1, 7, 6, 30, 29)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    module._blocks.cache_clear()


def inputs(lengths: Sequence[int], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(sum(lengths), 3, 4, generator=generator, dtype=dtype).requires_grad_() for _ in range(3)]


def plainly(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], scale: float) -> Tensor:
    out = []
    for a, b, c in zip(*(x.split(list(lengths)) for x in (q, k, v))):
        p = torch.softmax(scale * torch.einsum("ihd,jhd->hij", a, b), -1)
        out.append(torch.einsum("hij,jhd->ihd", p, c))
    return torch.cat(out)


@pytest.mark.parametrize("lengths", [SORTED, MIXED, (4,), (1,), (6, 6)])
@pytest.mark.parametrize(("room", "worth"), [(1 << 18, 1 << 16), (1, 0), (100, 200)])
def test_attention_and_gradient_are_those_of_each_text_alone(
    lengths: tuple[int, ...], room: int, worth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROOM", room)
    monkeypatch.setattr(module, "WORTH", worth)
    x = inputs(lengths)
    found, wanted = attention(*x, lengths, scale=0.7), plainly(*x, lengths, 0.7)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    pull = torch.randn_like(wanted)
    for a, b in zip(torch.autograd.grad(found, x, pull), torch.autograd.grad(wanted, x, pull)):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


def test_gradient_with_dropout_is_that_of_the_mask_that_was_drawn() -> None:
    lengths = (4, 3, 3, 1)

    def run(*x: Tensor) -> Tensor:
        torch.manual_seed(5)
        return attention(*x, lengths, scale=0.5, dropout=0.4)

    assert torch.autograd.gradcheck(run, inputs(lengths))


def test_dropout_falls_on_the_probabilities() -> None:
    length = 64
    q, k, _ = inputs((length,) * 3)
    # With the identity as values the output is the matrix of probabilities itself.
    q, k = (torch.cat([x] * 16, -1) for x in (q, k))
    v = torch.eye(length, dtype=q.dtype).unsqueeze(1).expand(-1, 3, -1).repeat(3, 1, 1)
    plain = attention(q, k, v, (length,) * 3, scale=0.1)
    dropped = attention(q, k, v, (length,) * 3, scale=0.1, dropout=0.25)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], plain[kept] / 0.75, rtol=1e-12, atol=0)
    share = 1 - kept.double().mean()
    assert abs(share - 0.25) < 5 * (0.25 * 0.75 / kept.numel()) ** 0.5


def test_texts_of_unlike_length_are_not_padded_to_each_other() -> None:
    blocks = module._blocks((512, 511, 500, 20, 19, 18), 12)
    assert [(b.count, b.length) for b in blocks] == [(2, 512), (1, 500), (3, 20)]
    assert blocks[1].places is None


def test_half_precision_is_close() -> None:
    x = inputs(SORTED, torch.float32)
    half = [y.detach().bfloat16().requires_grad_() for y in x]
    found, wanted = attention(*half, SORTED, scale=0.5), plainly(*x, SORTED, 0.5)
    torch.testing.assert_close(found.float(), wanted, rtol=0.05, atol=0.05)
    pull = torch.randn_like(wanted)
    grads = torch.autograd.grad(found, half, pull.bfloat16())
    for a, b in zip(grads, torch.autograd.grad(wanted, x, pull)):
        torch.testing.assert_close(a.float(), b, rtol=0.1, atol=0.1)
