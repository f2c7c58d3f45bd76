"""Positives of one side, negatives of another: written out; its limits; nothing where there is no anchor."""

import pytest
import torch
from torch.nn import functional as F

from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Labels
from counterpoint.objectives.sides import sided_contrast


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize("itself", [True, False])
@pytest.mark.parametrize("printed", [True, False])
def test_written_out(itself, printed):
    h, g = unit(7, 4, seed=1), unit(4, 4, seed=2)
    every, labels = torch.tensor([2, 3, 2, 0, 0, 1, 0]), torch.tensor([0, 0, 1, 0])
    anchors, losses = h[3:], []
    for k in range(4):
        p = [q for q in range(4) if labels[q] == labels[k] and (itself or q != k)]
        if not p:
            continue
        pull = [torch.exp(anchors[k] @ g[q] / 0.5) for q in p]
        push = sum(torch.exp(anchors[k] @ h[i] / 0.5) for i in range(7) if printed or every[i] != labels[k])
        whole = push if printed else push + sum(pull)
        losses.append(sum(-torch.log(x / whole) for x in pull) / len(p))
    found = sided_contrast(
        anchors, g, h, labels=labels, negative_labels=every, scale=2.0, itself=itself, printed=printed
    )
    torch.testing.assert_close(found, torch.stack(losses).mean())


def test_one_class_rehearsed_and_no_other_there_pulls_and_pushes_nothing():
    h = unit(1, 4).requires_grad_()
    y = torch.tensor([0])
    loss = sided_contrast(h, h.detach(), h, labels=y, negative_labels=y, scale=10.0)
    loss.backward()
    assert loss == 0
    assert h.grad.abs().max() < 1e-12


def test_one_model_for_all_is_supcon():
    z, y = unit(6, 4), torch.tensor([0, 1, 0, 1, 2, 0])
    found = sided_contrast(z, z, z, labels=y, negative_labels=y, scale=3.0, itself=False)
    torch.testing.assert_close(found, contrast(z, z, Labels(y, self_pairs=False), scale=3.0))


def test_without_an_anchor_nothing_has_a_gradient():
    h = unit(3, 4).requires_grad_()
    none, y = torch.zeros(0, dtype=torch.long), torch.tensor([0, 1, 1])
    loss = sided_contrast(h[:0], h[:0], h, labels=none, negative_labels=y, scale=5.0)
    loss.backward()
    assert loss == 0
    assert (h.grad == 0).all()
