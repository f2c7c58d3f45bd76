import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from counterpoint.kernels.dropout import STEPS, Dropout, Mask, dropout, quicken


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_kept_elements_are_scaled_and_the_gradient_has_the_same_mask(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(101, 7, dtype=dtype, requires_grad=True)
    y = dropout(x, 0.3)
    scale = STEPS / (STEPS - round(0.3 * STEPS))
    kept = y != 0
    assert torch.equal(y, torch.where(kept, x * scale, 0))
    (grad,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert torch.equal(grad, torch.where(kept, torch.full_like(x, scale), 0))
    assert 0 < kept.sum() < kept.numel()


def test_each_element_of_a_word_of_random_bits_is_dropped_with_probability_p() -> None:
    kept = Mask(0.1, seed=3).next(torch.empty(100_000, 4)) != 0
    share = 1 - kept.double().mean(0)
    assert torch.all((share - 0.1).abs() < 5 * (0.1 * 0.9 / 1e5) ** 0.5)
    # Neighbours are dropped independently: the share of pairs dropped together is p².
    both = (~kept[:, :-1] & ~kept[:, 1:]).double().mean(0)
    assert torch.all((both - 0.01).abs() < 5 * (0.01 / 1e5) ** 0.5)


def test_the_mask_follows_torchs_generator() -> None:
    x = torch.ones(1000)
    torch.manual_seed(1)
    first, second = dropout(x, 0.5), dropout(x, 0.5)
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(first, dropout(x, 0.5))


def test_recomputation_replays_the_mask() -> None:
    layer = nn.Sequential(nn.Linear(5, 5), Dropout(0.4), nn.Linear(5, 5), Dropout(0.4))
    x = torch.randn(30, 5)
    grads = []
    for run in (layer, lambda y: checkpoint(layer, y, use_reentrant=False)):
        torch.manual_seed(2)
        grads.append(torch.autograd.grad(run(x).square().sum(), list(layer.parameters())))
    for a, b in zip(*grads):
        assert torch.equal(a, b)


def test_without_effect_it_is_torchs() -> None:
    x = torch.randn(8)
    assert Dropout(0.5).eval()(x) is x or torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(1.0)(x), torch.zeros(8))


def test_only_plain_dropout_is_replaced() -> None:
    class Own(nn.Dropout):
        pass

    module = nn.Sequential(nn.Dropout(0.2), nn.Sequential(nn.Dropout(0.3)).eval(), Own(0.4), nn.Linear(2, 2))
    before = set(module.state_dict())
    quicken(module)
    assert type(module[0]) is Dropout
    assert module[0].p == 0.2
    assert module[0].training
    assert type(module[1][0]) is Dropout
    assert not module[1][0].training
    assert type(module[2]) is Own
    assert set(module.state_dict()) == before
