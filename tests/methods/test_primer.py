"""Texts find their own words among those of the batch; the losses are those of the survey; classes have names."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from counterpoint.data.classes import as_texts
from counterpoint.errors import ConfigError, DataError
from counterpoint.methods.text.primer import Config, Primer, compared, draw
from tests.conformance.rows import build

TEXTS = ["red apple on a tree", "a boat on the sea", "the apple boat", "seven birds sing at dawn near a tree"]


def made(**settings):
    method = build(Primer, "text")
    torch.manual_seed(0)
    return Primer(method.encoder, Config(**settings)).eval()


def rows(texts=TEXTS, labels=None):
    return [{"text": t, "row": i, **({} if labels is None else {"label": labels[i]})} for i, t in enumerate(texts)]


def views(method, *, seed=0, **given):
    """The batch, and the texts and words that were encoded."""
    seen = []
    collate = method.encoder.collate
    method.encoder.collate = lambda items, role=None: seen.append(list(items)) or collate(items, role)
    batch = method.views(rows(**given), np.random.default_rng(seed))
    return batch, *seen


def targets_of(batch):
    """Which candidates are said by which texts; all are compared, as there is one process."""
    kept, targets, first = compared(batch)
    assert kept.all()
    assert first == 0
    return targets


def test_drawn_words_leave_the_text_and_are_positives_wherever_they_stand():
    batch, seen, pool = views(made(drawn=2))
    assert len(set(pool)) == len(pool)
    targets = targets_of(batch)
    for i, text in enumerate(TEXTS):
        for j, word in enumerate(pool):
            assert targets[i, j] == (word in text.split())
        own = [w for w in dict.fromkeys(text.split()) if w not in seen[i].split()]
        assert len(own) == min(2, len(text.split()) // 2)
        assert set(own) <= set(pool)
        assert seen[i].split() == [w for w in text.split() if w not in own]
    for j, i in enumerate(batch.one("label").owner.tolist()):
        assert pool[j] in TEXTS[i].split()


@pytest.mark.parametrize("loss", ["binary", "ranking"])
def test_the_loss_written_out(loss):
    method = made(loss=loss, temperature=0.2, bias=-1.0)
    batch, seen, pool = views(method)
    found = method.losses(batch)[loss]
    z, w = (torch.from_numpy(method.encoder.encode(x)) for x in (seen, pool))
    s, t = z @ w.T / 0.2, targets_of(batch)
    if loss == "binary":
        s = s - 1
        expected = -(t * s.sigmoid().log() + (1 - t) * (1 - s.sigmoid()).log()).sum(1).mean()
    else:
        expected = -(t / t.sum(1, keepdim=True) * s.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_ablation_contrasts_two_crops():
    method = made(loss="crops", temperature=0.2)
    batch, one, other = views(method)
    for text, a, b in zip(TEXTS, one, other):
        assert a in text
        assert b in text
    s = torch.from_numpy(method.encoder.encode(one)) @ torch.from_numpy(method.encoder.encode(other)).T / 0.2
    expected = (F.cross_entropy(s, torch.arange(4)) + F.cross_entropy(s.T, torch.arange(4))) / 2
    torch.testing.assert_close(method.losses(batch)["crops"], expected, rtol=1e-4, atol=1e-5)


def test_class_names_are_words_of_their_rows():
    method = made(drawn=1, labels=("fruit_tree", "open-sea", "dawn"))
    batch, _, pool = views(method, labels=[0, 1, 1, 2])
    assert pool[-3:] == ["fruit tree", "open sea", "dawn"]
    assert targets_of(batch)[:, -3:].tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert batch.one("label").owner[-3:].tolist() == [0, 1, 3]


def test_a_text_without_words_has_no_positive_and_one_without_any_is_refused():
    method = made()
    batch, *_ = views(method, texts=["a boat on the sea", "…", "red apple"])
    assert not targets_of(batch)[1].any()
    losses = method.losses(batch)
    assert torch.isfinite(losses["binary"])
    assert len(method.observed["anchor"]) == 2
    with pytest.raises(DataError, match="has a word"):
        method.views(rows(["…", "!"]), np.random.default_rng(0))


def test_a_short_text_keeps_half_of_its_words():
    rng = np.random.default_rng(0)
    assert draw([], rng, 3) == []
    assert draw(["one"], rng, 3) == ["one"]
    assert len(draw(["one", "two", "one"], rng, 3)) == 1
    assert len(set(draw(list("abcdefgh"), rng, 3))) == 3


def test_two_classes_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="same text"):
        as_texts(["top_up", "Top up"])


@pytest.mark.parametrize("wrong", [{"loss": "other"}, {"drawn": 0}, {"crop": (0.5, 0.2)}, {"crop": (0.0, 0.2)}])
def test_what_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Config(**wrong)
