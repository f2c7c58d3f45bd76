"""The four losses are those of the paper, on two views; hard ones begin with all negatives where asked."""

import math

import numpy as np
import pytest
import torch

from counterpoint.errors import ConfigError
from counterpoint.methods.text.loss_behaviour import Config, LossBehaviour
from counterpoint.objectives.contrast import contrast
from tests.conformance.rows import build, rows

pytest.importorskip("PIL")


def made(modality="text", **settings):
    method = build(LossBehaviour, modality)
    torch.manual_seed(0)
    return LossBehaviour(method.encoder, Config(**{"out": 0, **settings})).train()


def embedded(method, n=10):
    batch = method.views(rows("texts", n), np.random.default_rng(0))
    torch.manual_seed(3)
    losses = method.losses(batch)
    return losses, method.observed["anchor"].double(), method.observed["positive"].double()


def by_hand(z, other, loss, *, temperature=0.5, alpha=0.25, weight=0.8):
    total = 0.0
    for one, two in ((z, other), (other, z)):
        s = one @ two.T
        for i in range(len(s)):
            negatives = torch.cat((s[i, :i], s[i, i + 1 :])).sort(descending=True).values
            if loss.startswith("hard"):
                negatives = negatives[: math.ceil(alpha * len(negatives))]
            if loss.endswith("simple"):
                total += weight * negatives.mean() - s[i, i]
            else:
                total += torch.cat((s[i, i : i + 1], negatives)).div(temperature).logsumexp(0) - s[i, i] / temperature
    return total / (2 * len(z))


@pytest.mark.parametrize("loss", ["contrastive", "simple", "hard", "hard-simple"])
def test_the_loss_written_out(loss):
    losses, z, other = embedded(made(loss=loss, temperature=0.5, alpha=0.25, weight=0.8))
    assert set(losses) == {loss}
    torch.testing.assert_close(losses[loss].double(), by_hand(z, other, loss), rtol=1e-5, atol=1e-5)


def test_the_gradient_is_hardness_aware():
    """Push and pull balance, and each negative is pushed in proportion to exp(s / T)."""
    s = torch.randn(1, 6, dtype=torch.float64, requires_grad=True)  # the scores themselves, as embeddings of one row
    eye = torch.eye(6, dtype=torch.float64)
    temperature = 0.3
    (grad,) = torch.autograd.grad(contrast(s, eye, scale=1 / temperature), s)
    p = (s / temperature).softmax(1).detach()
    torch.testing.assert_close(grad[0, 1:], p[0, 1:] / temperature)
    torch.testing.assert_close(grad[0, 0], -p[0, 1:].sum() / temperature)
    r = grad[0, 1:] / -grad[0, 0]
    torch.testing.assert_close(r, (s[0, 1:] / temperature).softmax(0).detach())


def test_hard_losses_begin_with_all_negatives():
    method = made(loss="hard", temperature=0.5, alpha=0.1, full=0.3)
    method.before_training(10)
    for step in range(1, 6):
        losses, z, other = embedded(method)
        expected = by_hand(z, other, "hard" if step > 3 else "contrastive", alpha=0.1)
        torch.testing.assert_close(losses["hard"].double(), expected, rtol=1e-5, atol=1e-5)
        method.after_step(step)


def test_images_are_two_augmented_views():
    method = made("image", loss="hard-simple", hidden=16, out=8, norm="layer")
    batch = method.views(rows("items", 6, "image"), np.random.default_rng(0))
    first, second = (batch.one(role).data for role in ("anchor", "positive"))
    assert first.shape == second.shape
    assert not torch.equal(first, second)
    assert torch.isfinite(method.losses(batch)["hard-simple"])


@pytest.mark.parametrize(
    "wrong", [{"temperature": 0.0}, {"temperature": -1.0}, {"alpha": 0.0}, {"loss": "soft"}, {"full": 1.0}]
)
def test_what_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Config(**wrong)
