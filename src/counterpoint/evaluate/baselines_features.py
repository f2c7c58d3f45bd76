"""Cheap features of items, by modality: what costs seconds and no training, and therefore has to be beaten.

A baseline is declared once, as a `Cheap` in `FEATURES`; the tasks do the rest: neighbours, a linear model and clusters
of labelled items, the ranking by cosine of items that look for each other. Features are learned from training items
alone (vocabularies, means), without their labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler, normalize

from counterpoint.encoders import kmers
from counterpoint.errors import DataError
from counterpoint.evaluate.knn import Matrix
from counterpoint.modalities.audio import Recording, log_mel
from counterpoint.modalities.graph import Graph, Node
from counterpoint.modalities.image import pixels as to_tensor
from counterpoint.modalities.table import is_missing

CHARACTERS = 2_000
"""Of a text, that n-grams of characters are taken from."""
WORDS, GRAMS = 50_000, 100_000
"""Words and n-grams that are counted, the most frequent of the training texts."""
SIDE = 16
"""Pixels: the side of the square that an image is made."""
RATE, SECONDS, BANDS = 16_000, 10, 64
"""Hertz (or the lowest rate among the recordings), seconds of a recording that are looked at, mel bands."""
VALUES = 100
"""Values of a column of categories that count by themselves, the most frequent; the others are one."""
INSTANCES = 50
"""Of a bag, spread evenly."""
K = 6
"""Bases of a k-mer."""


class Features(NamedTuple):
    """name: of the baseline. train: (N, F). test: (N', F). cut: a sentence on what was left out, if anything was."""

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
    """

    name: str
    of: Callable[[Sequence[Any], Sequence[Any]], tuple[Matrix, Matrix, str]]
    by: Literal["linear", "trees"] = "linear"

    def features(self, train_items: Sequence[Any], test_items: Sequence[Any]) -> Features:
        """Features of both; raises `DataError` where the training items have none."""
        train, test, cut = self.of(train_items, test_items)
        return Features(self.name, _plain(train), _plain(test), cut)


# --- text --------------------------------------------------------------------------------------------------------


def words(train: Sequence[str], test: Sequence[str]) -> tuple[Matrix, Matrix, str]:
    """TF-IDF of words: ``(1 + log tf) · idf``, rows of unit length."""
    return *_tfidf(train, test, token_pattern=r"(?u)\b\w+\b", max_features=WORDS), ""


def characters(train: Sequence[str], test: Sequence[str]) -> tuple[Matrix, Matrix, str]:
    """TF-IDF of n-grams of 2 to 4 characters within words."""
    both = ([text[:CHARACTERS] for text in texts] for texts in (train, test))
    long = sum(len(text) > CHARACTERS for texts in (train, test) for text in texts)
    cut = f"of {long:,} texts the first {CHARACTERS:,} characters were read" if long else ""
    return *_tfidf(*both, analyzer="char_wb", ngram_range=(2, 4), max_features=GRAMS), cut


def _tfidf(train: Sequence[str], test: Sequence[str], **how: Any) -> tuple[Matrix, Matrix]:
    counts = TfidfVectorizer(sublinear_tf=True, dtype=np.float32, **how)
    try:
        return counts.fit_transform(train), counts.transform(test)
    except ValueError as error:  # "empty vocabulary"
        raise DataError("None of the training texts has a word.") from error


# --- other modalities --------------------------------------------------------------------------------------------


def pixels(train: Sequence[Any], test: Sequence[Any]) -> tuple[Matrix, Matrix, str]:
    """Images as squares of `SIDE` by `SIDE` pixels in red, green and blue, less the mean image."""
    known, unseen = (to_tensor(list(items), SIDE, fit="squash").flatten(1).numpy() for items in (train, test))
    return *_scaled(known - known.mean(0), unseen - known.mean(0)), ""


def log_mel_statistics(train: Sequence[Recording], test: Sequence[Recording]) -> tuple[Matrix, Matrix, str]:
    """Mean and standard deviation over time of each log-mel band, standardised by the training recordings."""
    rate = min([RATE, *(x.rate for items in (train, test) for x in items)])
    long = sum(x.seconds > SECONDS for items in (train, test) for x in items)
    cut = f"of {long:,} recordings the first {SECONDS} seconds were heard" if long else ""
    known, unseen = (np.stack([_bands(x, rate) for x in items]) for items in (train, test))
    return *_standardised(known, unseen), cut


def _bands(recording: Recording, rate: int) -> np.ndarray:
    heard = recording.part(0, SECONDS * recording.rate).at(rate)
    bands = max(8, min(BANDS, rate // 250))
    frames = log_mel(heard, bands=bands, window=max(16, rate // 40), hop=max(1, rate // 100))
    return np.concatenate((frames.mean(0), frames.std(0)))


def kmer_counts(train: Sequence[str], test: Sequence[str]) -> tuple[Matrix, Matrix, str]:
    """Square roots of the shares of k-mers of both strands, less the mean of the training sequences."""
    known, unseen = (np.sqrt(normalize(kmers.counts(items, K), norm="l1")) for items in (train, test))
    return *_scaled(known - known.mean(0), unseen - known.mean(0)), ""


def vectors(train: Sequence[np.ndarray], test: Sequence[np.ndarray]) -> tuple[Matrix, Matrix, str]:
    """Vectors as they are, but for one factor."""
    return *_scaled(*(np.stack(items).astype(np.float32) for items in (train, test))), ""


def columns(train: Sequence[Any], test: Sequence[Any]) -> tuple[Matrix, Matrix, str]:
    """Cells of a table: numbers standardised, missing ones as the mean beside a mark; everything else one-hot."""
    known, unseen = ([item.get("table", item) for item in items] for items in (train, test))
    names = list(dict.fromkeys(name for row in known for name in row))
    numbers = [n for n in names if all(_is_number(cell) for row in known if not is_missing(cell := row.get(n)))]
    others = [n for n in names if n not in numbers]
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    if numbers:
        filled = SimpleImputer(add_indicator=True)
        a = filled.fit_transform(_cells(known, numbers, float))
        parts.append(_standardised(a, filled.transform(_cells(unseen, numbers, float)), rows=False))
    if others:
        code = OneHotEncoder(max_categories=VALUES, handle_unknown="infrequent_if_exist", sparse_output=False)
        a = code.fit_transform(_cells(known, others, str))
        parts.append((a, code.transform(_cells(unseen, others, str))))
    both = (np.concatenate([part[side] for part in parts], axis=1) for side in (0, 1))
    return *_scaled(*both), ""


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float | np.number) and not isinstance(cell, bool)


def _cells(rows: Sequence[Any], names: Sequence[str], of: type) -> np.ndarray:
    if of is float:
        found = [[cell if _is_number(cell := row.get(n)) else np.nan for n in names] for row in rows]
        return np.array(found, dtype=np.float64)
    return np.array([["" if is_missing(c := row.get(n)) else str(c) for n in names] for row in rows], dtype=object)


def own(train: Sequence[Node], test: Sequence[Node]) -> tuple[Matrix, Matrix, str]:
    """Features of the nodes themselves, scaled to unit length."""
    return *(_of_nodes(items, steps=0) for items in (train, test)), ""


def around(train: Sequence[Node], test: Sequence[Node]) -> tuple[Matrix, Matrix, str]:
    """Features averaged twice over neighbours and the node itself (Wu et al. 2019, SGC, arXiv 1902.07153)."""
    return *(_of_nodes(items, steps=2) for items in (train, test)), ""


def _of_nodes(nodes: Sequence[Node], *, steps: int) -> Matrix:
    graphs: list[Graph] = list(dict.fromkeys(node.graph for node in nodes))
    found = []
    for graph in graphs:
        x, n = normalize(sparse.csr_array(graph.features)), len(graph)
        loops = sparse.eye_array(n, dtype=np.float32)
        edges = sparse.csr_array((np.ones(graph.edges.shape[1], np.float32), tuple(graph.edges)), (n, n)) + loops
        root = sparse.dia_array((edges.sum(1)[None] ** -0.5, [0]), shape=(n, n))
        for _ in range(steps):
            x = root @ (edges @ (root @ x))
        found.append(normalize(sparse.csr_array(x)))
    starts = dict(zip(graphs, np.cumsum([0, *map(len, graphs)])))
    return sparse.vstack(found, format="csr")[np.array([starts[node.graph] + node.number for node in nodes])]


# --- the declaration ---------------------------------------------------------------------------------------------

FEATURES: dict[str, tuple[Cheap, ...]] = {
    "text": (Cheap(name="TF-IDF of words", of=words), Cheap(name="TF-IDF of character n-grams", of=characters)),
    "image": (Cheap(name="pixels", of=pixels),),
    "audio": (Cheap(name="log-mel mean and deviation", of=log_mel_statistics),),
    "dna": (Cheap(name="k-mer counts", of=kmer_counts),),
    "vector": (Cheap(name="the vectors themselves", of=vectors),),
    "table": (Cheap(name="columns", of=columns), Cheap(name="columns, boosted trees", of=columns, by="trees")),
    "graph": (Cheap(name="node features", of=own), Cheap(name="node features of neighbours", of=around)),
}
"""Modality -> its baselines by features."""


def features_of(modality: str, *, bags: bool = False) -> tuple[Cheap, ...]:
    """The baselines of a modality; none where nothing cheap is known. bags: of bags of such items."""
    found = FEATURES.get(modality, ())
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


def _instances(bags: Sequence[Sequence[Any]]) -> tuple[list[Any], sparse.csr_array]:
    """All instances, and what makes the means of bags of them ``(bags, instances)``."""
    some = [[bag[i] for i in np.linspace(0, len(bag) - 1, min(len(bag), INSTANCES)).astype(int)] for bag in bags]
    sizes = np.array([len(bag) for bag in some])
    total, ends = int(sizes.sum()), np.concatenate(([0], np.cumsum(sizes)))
    share = np.repeat(1 / sizes, sizes).astype(np.float32)
    mean = sparse.csr_array((share, np.arange(total), ends), (len(bags), total))
    return [item for bag in some for item in bag], mean


def narrow(features: Features, *, width: int = 256, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Both matrices in at most so many columns, by singular vectors of the training rows where they are wider."""
    train, test = features.train, features.test
    if train.shape[1] > width:
        few = TruncatedSVD(min(width, train.shape[0]), random_state=seed)
        train, test = few.fit_transform(train), few.transform(test)
    return _dense(train), _dense(test)


def _dense(x: Matrix) -> np.ndarray:
    return x.toarray() if sparse.issparse(x) else np.asarray(x)


def _plain(x: Matrix) -> Matrix:
    """A sparse matrix with the short indices that scikit-learn's k-means wants."""
    if sparse.issparse(x):
        x.indices, x.indptr = x.indices.astype(np.int32), x.indptr.astype(np.int32)
    return x


# --- scale -------------------------------------------------------------------------------------------------------


def _standardised(train: np.ndarray, test: np.ndarray, *, rows: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """By the training rows' mean and deviation of each column; rows: of about unit length too."""
    scale = StandardScaler().fit(train)
    both = scale.transform(train), scale.transform(test)
    return _scaled(*both) if rows else both


def _scaled(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both by the one factor that makes the mean square length of training rows 1."""
    length = float(np.sqrt((train.astype(np.float64) ** 2).sum(1).mean())) or 1.0
    return (train / length).astype(np.float32), (test / length).astype(np.float32)
