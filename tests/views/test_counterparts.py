"""Two parts of one item, by which a model is measured where nothing says what belongs together."""

from __future__ import annotations

import pkgutil

import numpy as np
import pytest
import torch

import counterpoint.views as package
from counterpoint.encoders.base import standard
from counterpoint.modalities.audio import Recording
from counterpoint.views.base import counterparts, sentence
from tests.conformance.rows import rows

MODALITIES = [m for m in (i.name for i in pkgutil.iter_modules(package.__path__)) if m != "base" and counterparts(m)]


def parts(modality, items, seed=0):
    return counterparts(modality)(items, np.random.default_rng(seed), standard(modality).example().collate)


def test_who_has_them():
    assert {"text", "image", "audio", "dna"} <= set(MODALITIES)
    assert counterparts("graph") is None  # has views, but none of one node
    assert counterparts("vector") is None  # has no file of views
    assert counterparts("image+table") is None


@pytest.mark.parametrize("modality", MODALITIES)
def test_one_pair_for_each_item_drawn_from_the_generator_alone(modality):
    items = [r[modality] for r in rows("items", 5, modality)]
    encoder = standard(modality).example()
    anchors, positives = parts(modality, items)
    assert len(anchors) == len(positives) == 5
    again = parts(modality, items)
    for a, b, c, d in zip(anchors, positives, *again):
        assert (a is None) == (b is None)
        if a is not None:
            one, two, *same = (encoder.encode([x])[0] for x in (a, b, c, d))
            assert not np.array_equal(one, two)
            assert np.array_equal(same, [one, two])
    said = sentence(counterparts(modality))
    assert said.endswith(".")
    assert "had to find" in said


def test_texts_are_cut_between_words_and_short_ones_not_at_all():
    assert parts("text", ["a b c d  e f g", "a b c d e"]) == (["a b c", None], ["d e f g", None])


def test_recordings_are_cut_in_the_middle():
    whole = Recording(np.arange(5, dtype=np.float32), 8000)
    (first, none), (second, also) = parts("audio", [whole, whole.part(0, 1)])
    assert first.samples.tolist() == [0, 1]
    assert second.samples.tolist() == [2, 3, 4]
    assert none is None
    assert also is None


def test_reads_lie_in_their_stretch_with_one_base_in_twenty_wrong():
    rng = np.random.default_rng(1)
    stretches = ["".join(rng.choice(list("ACGT"), n)) for n in (3000,) * 30 + (40,)]
    found, whole = parts("dna", stretches)
    assert whole == stretches
    assert all(100 <= len(read) <= 250 for read in found[:-1])
    assert len(found[-1]) == 20
    wrong = [
        min(sum(a != b for a, b in zip(read, s[at:])) for at in range(len(s) - len(read) + 1))
        for read, s in zip(found[:5], whole)
    ]
    assert 0.02 < sum(wrong) / sum(map(len, found[:5])) < 0.08


def test_images_are_cropped_to_what_the_encoder_reads():
    images = [r["image"] for r in rows("items", 3, "image")]
    one, two = parts("image", images)
    assert one.shape == two.shape == (3, 3, 16, 16)
    assert not torch.equal(one, two)
