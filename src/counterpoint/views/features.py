"""Cheap features of items: what costs seconds and no training, and therefore has to be beaten.

A modality's file of views declares its own under the name ``cheap``, a tuple of `Cheap`; the tasks do the rest:
neighbours, a linear model and clusters of labelled items, the ranking by cosine of items that look for each other.
Features are learned from training items alone (vocabularies, means), without their labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

Matrix: TypeAlias = Any
"""Rows of features ``(N, F)``: an array, or a sparse matrix of scipy's."""

INSTANCES = 50
"""Of a bag, spread evenly."""


class Features(NamedTuple):
    """name: of the baseline. train: (N, F). test: (N', F). cut: a sentence on what was left out, if anything was.

    >>> Features("tf-idf", np.zeros((2, 3)), np.zeros((1, 3))).cut
    ''
    """

    name: str
    train: Matrix
    test: Matrix
    cut: str = ""


@dataclass(frozen=True, kw_only=True)
class Cheap:
    """A baseline by features.

    name: as it is shown. of: training items and test items to their matrices and what was left out of them. Rows have
    about unit length, so that one range of penalties suits all. by: the model on top where there are labels: ``linear``
    (and neighbours, and clusters), or boosted ``trees`` alone.

    >>> def of(train, test):
    ...     return np.array([[len(x)] for x in train]), np.array([[len(x)] for x in test]), ""
    >>> lengths = Cheap(name="length", of=of)
    >>> lengths.features(["a", "bb"], ["ccc"]).test.tolist()
    [[3]]
    """

    name: str
    of: Callable[[Sequence[Any], Sequence[Any]], tuple[Matrix, Matrix, str]]
    by: Literal["linear", "trees"] = "linear"

    def features(self, train_items: Sequence[Any], test_items: Sequence[Any]) -> Features:
        """Features of both; raises `DataError` where the training items have none.

        train_items: from which means and vocabularies are learned. test_items: of the same kind.
        """
        train, test, cut = self.of(train_items, test_items)
        return Features(self.name, _plain(train), _plain(test), cut)


def cheap(modality: str) -> tuple[Cheap, ...]:
    """The baselines by features of a modality, as ``counterpoint.views.MODALITY`` declares them; none where nothing
    cheap is known.

    modality: its name.

    >>> [baseline.name for baseline in cheap("text")]
    ['TF-IDF of words', 'TF-IDF of character n-grams']
    """
    name = f"counterpoint.views.{modality}"
    found: tuple[Cheap, ...] = getattr(import_module(name), "cheap", ()) if find_spec(name) else ()
    return found


def features_of(modality: str, *, bags: bool = False) -> tuple[Cheap, ...]:
    """The baselines of a modality; none where nothing cheap is known. bags: of bags of such items.

    modality: its name.

    >>> [baseline.name for baseline in features_of("vector", bags=True)]
    ['the vectors themselves, mean of the bag']
    """
    found = cheap(modality)
    return tuple(map(_of_bags, found)) if bags else found


def _of_bags(cheap: Cheap) -> Cheap:
    """The same of bags: the mean over their instances."""

    def of(train: Sequence[Sequence[Any]], test: Sequence[Sequence[Any]]) -> tuple[Matrix, Matrix, str]:
        long = sum(len(bag) > INSTANCES for bags in (train, test) for bag in bags)
        (known, a), (unseen, b) = map(_instances, (train, test))
        x, y, cut = cheap.of(known, unseen)
        some = f"of {long:,} bags {INSTANCES} instances were read" if long else ""
        return a @ x, b @ y, ", ".join(filter(None, (some, cut)))

    return replace(cheap, name=f"{cheap.name}, mean of the bag", of=of)


def _instances(bags: Sequence[Sequence[Any]]) -> tuple[list[Any], Matrix]:
    """All instances, and what makes the means of bags of them ``(bags, instances)``."""
    from scipy import sparse

    some = [[bag[i] for i in np.linspace(0, len(bag) - 1, min(len(bag), INSTANCES)).astype(int)] for bag in bags]
    sizes = np.array([len(bag) for bag in some])
    total, ends = int(sizes.sum()), np.concatenate(([0], np.cumsum(sizes)))
    share = np.repeat(1 / sizes, sizes).astype(np.float32)
    mean = sparse.csr_array((share, np.arange(total), ends), (len(bags), total))
    return [item for bag in some for item in bag], mean


def narrow(features: Features, *, width: int = 256, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Both matrices in at most so many columns, by singular vectors of the training rows where they are wider.

    features: of training and test rows. width: most columns. seed: of the randomised decomposition.

    >>> x = np.random.default_rng(0).normal(size=(20, 10))
    >>> train, test = narrow(Features("random", x, x[:5]), width=3)
    >>> train.shape, test.shape
    ((20, 3), (5, 3))
    """
    from sklearn.decomposition import TruncatedSVD

    train, test = features.train, features.test
    if train.shape[1] > width:
        few = TruncatedSVD(min(width, train.shape[0]), random_state=seed)
        train, test = few.fit_transform(train), few.transform(test)
    return _dense(train), _dense(test)


def _dense(x: Matrix) -> np.ndarray:
    return x.toarray() if hasattr(x, "toarray") else np.asarray(x)


def _plain(x: Matrix) -> Matrix:
    """A sparse matrix with the short indices that scikit-learn's k-means wants."""
    if hasattr(x, "indptr"):
        x.indices, x.indptr = x.indices.astype(np.int32), x.indptr.astype(np.int32)
    return x


def standardised(train: np.ndarray, test: np.ndarray, *, rows: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """By the training rows' mean and deviation of each column; rows: of about unit length too.

    train: ``(N, F)``. test: ``(N', F)``.

    >>> train, test = standardised(np.array([[0.0], [2.0]]), np.array([[1.0]]), rows=False)
    >>> train.tolist(), test.tolist()
    ([[-1.0], [1.0]], [[0.0]])
    """
    from sklearn.preprocessing import StandardScaler

    scale = StandardScaler().fit(train)
    both = scale.transform(train), scale.transform(test)
    return scaled(*both) if rows else both


def scaled(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both by the one factor that makes the mean square length of training rows 1.

    train: ``(N, F)``. test: ``(N', F)``.

    >>> train, test = scaled(np.array([[3.0, 4.0]]), np.array([[0.0, 5.0]]))
    >>> [[round(float(x), 2) for x in rows[0]] for rows in (train, test)]
    [[0.6, 0.8], [0.0, 1.0]]
    """
    length = float(np.sqrt((train.astype(np.float64) ** 2).sum(1).mean())) or 1.0
    return (train / length).astype(np.float32), (test / length).astype(np.float32)
