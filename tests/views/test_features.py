"""Cheap features: what each modality's baseline sees, learned from training items alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from counterpoint.errors import DataError
from counterpoint.evaluate.tasks import Labelled
from counterpoint.modalities.audio import Recording
from counterpoint.modalities.base import discover
from counterpoint.modalities.graph import Graph
from counterpoint.modalities.video import Video
from counterpoint.views.features import Cheap, cheap, features_of, narrow
from counterpoint.views.graph import around
from counterpoint.views.table import columns
from counterpoint.views.text import words

N = 80
FEATURES = {name: cheap(name) for name in discover() if cheap(name)}


def texts(labels: np.ndarray, rng: np.random.Generator) -> list[str]:
    kinds = (["boat", "tide", "gull"], ["rose", "soil", "seed"])
    return [" ".join(rng.choice([*kinds[label], "the", "of", "a"], 8)) for label in labels]


def images(labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Bright above or below, and of sizes of their own."""
    found = []
    for label in labels:
        image = rng.integers(0, 120, (24 + label, 30, 3)).astype(np.uint8)
        image[:12] += np.uint8(80 * label)
        image[12:] += np.uint8(80 * (1 - label))
        found.append(image)
    return found


def recordings(labels: np.ndarray, rng: np.random.Generator) -> list[Recording]:
    """Of two pitches, at two rates."""
    found = []
    for label in labels:
        rate = int(rng.choice([8_000, 16_000]))
        wave = np.sin(2 * np.pi * (400 + 700 * label) * np.arange(rate // 4) / rate) + 0.3 * rng.normal(size=rate // 4)
        found.append(Recording(wave.astype(np.float32) / 3, rate))
    return found


def sequences(labels: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Which strand one is read from does not matter."""
    found = []
    for label in labels:
        bases = "".join(rng.choice(list("ACGT"), 120)) + ("ACGTTGCAAG" if label else "GGGATCCCTA") * 4
        if rng.random() < 0.5:
            bases = bases[::-1].translate(str.maketrans("ACGT", "TGCA"))
        found.append(bases)
    return found


def vectors(labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.normal(size=5) + 2 * label for label in labels]


def tables(labels: np.ndarray, rng: np.random.Generator) -> list[dict[str, Any]]:
    """A number in large units, a category, cells that are missing, one of them in the test rows alone."""
    return [
        {
            "income": 50_000 + 20_000 * label + 5_000 * rng.normal(),
            "town": str(rng.choice(["Ulm", "Bonn"] if label else ["Bonn", "Kiel"])),
            "age": None if rng.random() < 0.3 else int(rng.integers(20, 70)),
            "member": bool(label) if rng.random() < 0.7 else None,
        }
        for label in labels
    ]


def nodes(labels: np.ndarray, rng: np.random.Generator) -> list[Any]:
    """Features that are commoner in one class, and edges within a class."""
    n = len(labels)
    features = (rng.random((n, 12)) < np.where(labels[:, None], 0.25, 0.6)).astype(np.float32)
    features[:, 0] = 1
    ends = [(i, int(rng.choice(np.flatnonzero(labels == labels[i])))) for i in range(n) for _ in range(3)]
    edges = np.array([e for e in ends if e[0] != e[1]]).T
    edges = np.unique(np.concatenate((edges, edges[::-1]), axis=1), axis=1)
    graph = Graph(features=features, edges=edges, labels=labels)
    return [graph[i] for i in range(n)]


def videos(labels: np.ndarray, rng: np.random.Generator) -> list[Video]:
    """A bright bar that stands still, or moves."""
    found = []
    for label in labels:
        frames = rng.integers(0, 60, (8, 16, 16, 3)).astype(np.uint8)
        for t in range(8):
            frames[t, :, (4 + label * t) % 16] += np.uint8(160)
        found.append(Video(frames, 8.0))
    return found


MADE = {
    "text": texts,
    "image": images,
    "audio": recordings,
    "dna": sequences,
    "vector": vectors,
    "table": tables,
    "graph": nodes,
    "video": videos,
}
ALL = [(modality, each) for modality, several in FEATURES.items() for each in several]
NAMES = [each.name for _, each in ALL]


def made(modality: str, seed: int = 0) -> tuple[list[Any], np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, N)
    return MADE[modality](labels, rng), labels


def test_every_modality_is_tried_and_no_name_comes_twice() -> None:
    assert MADE.keys() == FEATURES.keys()
    assert len(set(NAMES)) == len(NAMES)
    assert features_of("smell") == ()


@pytest.mark.parametrize(("modality", "each"), ALL, ids=NAMES)
def test_classes_that_differ_plainly_are_told_apart(modality: str, each: Cheap) -> None:
    items, labels = made(modality)
    known, unseen = slice(0, 50), slice(50, N)
    name, train, test, cut = each.features(items[known], items[unseen])
    assert (name, cut) == (each.name, "")
    assert (train.shape[0], test.shape[0], train.shape[1]) == (50, 30, test.shape[1])
    length = np.sqrt((train.multiply(train) if sparse.issparse(train) else train**2).sum(axis=1))
    assert 0.5 < length.mean() < 1.5, "rows have about unit length"
    found, _ = Labelled(items[known], labels[known], items[unseen], labels[unseen]).samples(
        train, test, k=5, seed=0, by=each.by
    )
    assert max(sample.value for sample in found.values()) > 0.8
    assert ("kNN accuracy" in found) == (each.by == "linear")


@pytest.mark.parametrize(("modality", "each"), ALL, ids=NAMES)
def test_test_items_do_not_change_what_is_learned(modality: str, each: Cheap) -> None:
    items, _ = made(modality)
    whole = each.features(items[:50], items[50:])
    part = each.features(items[:50], items[60:70])
    assert whole.train.shape == part.train.shape
    np.testing.assert_allclose(*(x.toarray() if sparse.issparse(x) else x for x in (whole.train, part.train)))
    both = [x.toarray() if sparse.issparse(x) else x for x in (whole.test, part.test)]
    np.testing.assert_allclose(both[0][10:20], both[1], atol=1e-6)


@pytest.mark.parametrize(("modality", "each"), ALL, ids=NAMES)
def test_a_bag_has_the_mean_of_its_instances(modality: str, each: Cheap) -> None:
    items, _ = made(modality)
    (bagged,) = [c for c in features_of(modality, bags=True) if c.name == f"{each.name}, mean of the bag"]
    single = each.features(items[:6], items[6:9])
    found = bagged.features([items[:2], items[2:6]], [items[6:9]])
    dense = [x.toarray() if sparse.issparse(x) else x for x in (single.train, single.test, found.train, found.test)]
    np.testing.assert_allclose(dense[2], [dense[0][:2].mean(0), dense[0][2:].mean(0)], atol=1e-6)
    np.testing.assert_allclose(dense[3], [dense[1].mean(0)], atol=1e-6)


def test_words_are_scikit_learns_tf_idf() -> None:
    known, unseen = ["a cat sat", "the cat", "one dog"], ["cat dog dog", "unknown"]
    name, train, test, _ = FEATURES["text"][0].features(known, unseen)
    theirs = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b").fit(known)
    assert name == "TF-IDF of words"
    np.testing.assert_allclose(train.toarray(), theirs.transform(known).toarray(), rtol=1e-5)
    np.testing.assert_allclose(test.toarray(), theirs.transform(unseen).toarray(), rtol=1e-5)


def test_texts_without_a_word_are_refused() -> None:
    with pytest.raises(DataError, match="None of the training texts has a word"):
        words(["!!!", "?"], ["word"])


@pytest.mark.parametrize(
    ("modality", "item", "expected"),
    [
        ("text", "word " * 500, "of 2 texts the first 2,000 characters were read"),
        ("audio", Recording(np.ones(100 * 12, np.float32), 100), "of 2 recordings the first 10 seconds were heard"),
    ],
)
def test_what_is_cut_is_said(modality: str, item: Any, expected: str) -> None:
    short = "a word" if modality == "text" else Recording(np.ones(100, np.float32), 100)
    assert [c.features([item, short], [item]).cut for c in FEATURES[modality]][-1] == expected


def test_of_large_bags_some_instances_are_read() -> None:
    found = features_of("vector", bags=True)[0].features([[np.ones(2)] * 60, [np.ones(2)]], [[np.ones(2)]])
    assert found.cut == "of 1 bags 50 instances were read"


def test_a_node_is_averaged_over_itself_and_its_neighbours() -> None:
    """A path of three nodes; by hand: D^-1/2 (A + I) D^-1/2, twice, rows to unit length."""
    graph = Graph(features=np.eye(3, dtype=np.float32), edges=np.array([[0, 1, 1, 2], [1, 0, 2, 1]]))
    near = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1]]) / np.sqrt(np.outer([2, 3, 2], [2, 3, 2]))
    expected = near @ near
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    train, test, _ = around([graph[0], graph[2]], [graph[1]])
    np.testing.assert_allclose(train.toarray(), expected[[0, 2]], rtol=1e-5)
    np.testing.assert_allclose(test.toarray(), expected[[1]], rtol=1e-5)


def test_cells_that_no_training_row_has() -> None:
    known = [{"town": "Ulm", "age": 3}, {"town": "Bonn", "age": None}, {"town": "Ulm"}]
    unseen: Sequence[dict[str, Any]] = [{"town": "Rome", "age": "old"}, {"table": {"town": "Bonn", "age": 3.0}}, {}]
    train, test, _ = columns(known, unseen)
    assert np.isfinite(train).all()
    assert np.isfinite(test).all()
    np.testing.assert_allclose(*(columns([{"table": k} for k in known], unseen)[0], train))


def test_narrow_keeps_what_there_is() -> None:
    items, _ = made("text")
    wide = FEATURES["text"][1].features(items[:50], items[50:])
    train, test = narrow(wide, width=10)
    assert (train.shape, test.shape) == ((50, 10), (30, 10))
    a, b = narrow(FEATURES["text"][0].features(items[:50], items[50:]))
    assert a.shape[1] == b.shape[1] < 256, "few columns stay as they are"
