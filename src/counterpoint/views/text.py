"""Views of token sequences: crops, deletion, repetition, replacement, masking, shuffling, and the inverse cloze.

A sequence is a list of token numbers, of words, of sentences: nothing here looks inside a token. Every
function is pure (all chance comes from ``rng``) and never returns an empty sequence, because the mean over no
tokens does not exist.

Sources: Izacard et al. 2021, arXiv 2112.09118 (independent crops, deletion, replacement, masking);
Lee et al. 2019, arXiv 1906.00300 (inverse cloze).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from counterpoint.errors import ConfigError, DataError
from counterpoint.views.base import Collate
from counterpoint.views.features import Cheap, Matrix

FEWEST_WORDS = 6
"""Of a text that is cut in two."""

T = TypeVar("T")
Ratio = tuple[float, float]
"""Least and largest share of the sequence, 0 < least <= largest <= 1."""


def random_crop(tokens: Sequence[T], rng: np.random.Generator, *, ratio: Ratio = (0.05, 0.5)) -> list[T]:
    """A span of ``max(1, int(r·L))`` of the L tokens, r uniform in ``ratio``, at a uniformly drawn place.

    rng: every draw comes from it.

    >>> random_crop(list(range(10)), np.random.default_rng(0), ratio=(0.3, 0.3))
    [4, 5, 6]
    """
    start, stop = _span(len(tokens), rng, ratio)
    return list(tokens[start:stop])


def independent_crops(
    tokens: Sequence[T], rng: np.random.Generator, *, ratio: Ratio = (0.05, 0.5)
) -> tuple[list[T], list[T]]:
    """Two crops of one sequence, drawn independently: they may overlap, and neither is a query or a document.

    rng: every draw comes from it. tokens: L of anything. ratio: least and largest share of a crop.

    >>> independent_crops([1, 2, 3, 4], np.random.default_rng(0), ratio=(0.5, 0.5))
    ([2, 3], [1, 2])
    """
    return random_crop(tokens, rng, ratio=ratio), random_crop(tokens, rng, ratio=ratio)


def inverse_cloze(
    tokens: Sequence[T], rng: np.random.Generator, *, ratio: Ratio = (0.05, 0.5), keep: float = 0.1
) -> tuple[list[T], list[T]]:
    """A span, and the sequence without it; with probability ``keep`` the sequence still holds the span.

    ``keep`` > 0 lets the encoder also learn from words in common (Lee et al. use 0.1). Given sentences as tokens
    and a ``ratio`` of one sentence, this is the published form. A span of everything leaves the sequence whole.

    rng: every draw comes from it.

    >>> span, rest = inverse_cloze(list(range(6)), np.random.default_rng(0), ratio=(0.5, 0.5), keep=0.0)
    >>> sorted(span + rest)
    [0, 1, 2, 3, 4, 5]
    """
    _share("keep", keep)
    start, stop = _span(len(tokens), rng, ratio)
    stays = rng.random() < keep
    rest = [*tokens[:start], *tokens[stop:]]
    return list(tokens[start:stop]), list(tokens) if stays or not rest else rest


def crop_words(text: str, rng: np.random.Generator, *, ratio: Ratio = (0.05, 0.5)) -> str:
    """A crop of whole words, with the text between them as it stands.

    rng: every draw comes from it.

    >>> crop_words("to be,  or not to be", np.random.default_rng(0), ratio=(0.5, 0.5))
    'or not to'
    """
    words = [m.span() for m in re.finditer(r"\S+", text)]
    start, stop = _span(len(words), rng, ratio)
    return text[words[start][0] : words[stop - 1][1]]


def sentences(text: str) -> list[str]:
    """The sentences of a document, each once: its lines where it has several, else what ends in . ! ? and their like.

    text: of any length; an empty one has none.

    >>> sentences("It rains. Does it? It rains.")
    ['It rains.', 'Does it?']
    """
    lines = text.splitlines() if "\n" in text.strip() else re.split(r"(?<=[.!?…])\s+|(?<=[。！？।])\s*", text)
    return list(dict.fromkeys(line.strip() for line in lines if line.strip()))


def neighbours(items: Sequence[T], rng: np.random.Generator, *, window: int = 1) -> tuple[T, T] | None:
    """An item and one at most ``window`` places from it, both drawn evenly; None of fewer than two.

    items: in their order, as sentences of a document are. window: in places. rng: every draw comes from it.

    Source: Wu et al. 2022, arXiv 2206.03281.

    >>> neighbours(["first", "second"], np.random.default_rng(0)), neighbours(["alone"], np.random.default_rng(0))
    (('second', 'first'), None)
    """
    if window < 1:
        raise ConfigError(f"window={window}: a neighbour is at least one place away.")
    if len(items) < 2:
        return None
    centre = int(rng.integers(len(items)))
    near = [i for i in range(max(0, centre - window), min(len(items), centre + window + 1)) if i != centre]
    return items[centre], items[int(rng.choice(near))]


def delete_tokens(tokens: Sequence[T], rng: np.random.Generator, *, p: float = 0.1) -> list[T]:
    """Every token is deleted with probability ``p``; where all would go, one drawn at random survives.

    rng: every draw comes from it. tokens: L of anything.

    >>> rng = np.random.default_rng(0)
    >>> delete_tokens("abc", rng, p=0.0), len(delete_tokens("abc", rng, p=1.0))
    (['a', 'b', 'c'], 1)
    """
    drop = _chosen(len(tokens), rng, p)
    if drop.all():
        drop[rng.integers(len(tokens))] = False
    return [t for t, gone in zip(tokens, drop) if not gone]


def replace_tokens(
    tokens: Sequence[T], rng: np.random.Generator, *, candidates: Sequence[T], p: float = 0.1
) -> list[T]:
    """Every token becomes, with probability ``p``, one drawn from ``candidates`` (``range(V)`` for numbers).

    rng: every draw comes from it. tokens: L of anything.

    >>> replace_tokens("abc", np.random.default_rng(0), candidates="z", p=1.0)
    ['z', 'z', 'z']
    """
    if not len(candidates):
        raise ConfigError("replace_tokens needs at least one candidate, e.g. candidates=range(vocabulary_size).")
    swap = _chosen(len(tokens), rng, p)
    drawn = rng.integers(len(candidates), size=len(tokens))
    return [candidates[int(d)] if s else t for t, s, d in zip(tokens, swap, drawn)]


def mask_tokens(tokens: Sequence[T], rng: np.random.Generator, *, mask: T, p: float = 0.1) -> list[T]:
    """Every token becomes ``mask`` with probability ``p``, independently.

    rng: every draw comes from it. tokens: L of anything.

    >>> mask_tokens([5, 6, 7], np.random.default_rng(0), mask=0, p=1.0)
    [0, 0, 0]
    """
    return [mask if hidden else t for t, hidden in zip(tokens, _chosen(len(tokens), rng, p))]


def shuffle_tokens(tokens: Sequence[T], rng: np.random.Generator, *, p: float = 0.1) -> list[T]:
    """The tokens chosen with probability ``p`` change places among themselves; the others stay.

    rng: every draw comes from it.

    >>> sorted(shuffle_tokens([3, 1, 2], np.random.default_rng(0), p=1.0))
    [1, 2, 3]
    """
    chosen = np.flatnonzero(_chosen(len(tokens), rng, p))
    out = list(tokens)
    for to, origin in zip(chosen, rng.permutation(chosen)):
        out[to] = tokens[origin]
    return out


def repeat_tokens(tokens: Sequence[T], rng: np.random.Generator, *, p: float = 0.3) -> list[T]:
    """Some tokens stand twice in a row: how many is drawn from 0 to ``max(2, int(p·L))``, then which of the L.

    Lengthens a text without changing what it says, so that length tells no positive. Source: Wu et al. 2022 (ESimCSE),
    arXiv 2109.04380.

    rng: every draw comes from it.

    >>> longer = repeat_tokens([1, 2, 3, 4], np.random.default_rng(0))
    >>> longer == sorted(longer), len(longer) <= 6
    (True, True)
    """
    _share("p", p)
    if not len(tokens):
        raise DataError("A view of an empty text was asked for; drop rows without words or tokens first.")
    count = int(rng.integers(min(len(tokens), max(2, int(p * len(tokens)))) + 1))
    twice = set(rng.choice(len(tokens), count, replace=False).tolist())
    return [t for i, token in enumerate(tokens) for t in ([token] * 2 if i in twice else [token])]


def counterparts(items: Sequence[str], rng: np.random.Generator, collate: Collate) -> tuple[list[Any], list[Any]]:
    """The first half of each text had to find its second half.

    Halves of its words; texts of fewer than `FEWEST_WORDS` have none. See `counterpoint.views.base.Counterparts`.

    items: N texts. rng: not used, nothing is drawn. collate: not used, halves are texts.

    >>> counterparts(["one two three four five six seven eight"], np.random.default_rng(0), list)
    (['one two three four'], ['five six seven eight'])
    """
    words = [text.split() for text in items]
    cut = [(w[: len(w) // 2], w[len(w) // 2 :]) if len(w) >= FEWEST_WORDS else None for w in words]
    first, second = ([half and " ".join(half[side]) for half in cut] for side in (0, 1))
    return first, second


def _span(length: int, rng: np.random.Generator, ratio: Ratio) -> tuple[int, int]:
    least, largest = ratio
    if not 0 < least <= largest <= 1:
        raise ConfigError(f"ratio={ratio}: give two shares with 0 < least <= largest <= 1, e.g. (0.05, 0.5).")
    if length == 0:
        raise DataError("A crop of an empty text was asked for; drop rows without words or tokens first.")
    n = max(1, int(length * rng.uniform(least, largest)))
    start = int(rng.integers(length - n + 1))
    return start, start + n


def _chosen(length: int, rng: np.random.Generator, p: float) -> np.ndarray:
    _share("p", p)
    if length == 0:
        raise DataError("A view of an empty text was asked for; drop rows without words or tokens first.")
    return rng.random(length) < p


def _share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{name}={value} is not a probability; give a number from 0 to 1.")


# --- cheap features ----------------------------------------------------------------------------------------------

CHARACTERS = 2_000
"""Of a text, that n-grams of characters are taken from."""
WORDS, GRAMS = 50_000, 100_000
"""Words and n-grams that are counted, the most frequent of the training texts."""


def words(train: Sequence[str], test: Sequence[str]) -> tuple[Matrix, Matrix, str]:
    """TF-IDF of words: ``(1 + log tf) · idf``, rows of unit length.

    train, test: texts. Returns the matrices of both, and what was left out of them in words.

    >>> train, test, cut = words(["a cat sat", "a dog ran"], ["the cat ran"])
    >>> train.shape[0], test.shape[0], train.shape[1] == test.shape[1]
    (2, 1, True)
    """
    return *_tfidf(train, test, token_pattern=r"(?u)\b\w+\b", max_features=WORDS), ""


def characters(train: Sequence[str], test: Sequence[str]) -> tuple[Matrix, Matrix, str]:
    """TF-IDF of n-grams of 2 to 4 characters within words.

    train, test: texts. Returns the matrices of both, and what was left out of them in words.

    >>> train, test, cut = characters(["a cat sat", "a dog ran"], ["the cat ran"])
    >>> train.shape[0], test.shape[0], train.shape[1] == test.shape[1]
    (2, 1, True)
    """
    both = ([text[:CHARACTERS] for text in texts] for texts in (train, test))
    long = sum(len(text) > CHARACTERS for texts in (train, test) for text in texts)
    cut = f"of {long:,} texts the first {CHARACTERS:,} characters were read" if long else ""
    return *_tfidf(*both, analyzer="char_wb", ngram_range=(2, 4), max_features=GRAMS), cut


def _tfidf(train: Sequence[str], test: Sequence[str], **how: Any) -> tuple[Matrix, Matrix]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    counts = TfidfVectorizer(sublinear_tf=True, dtype=np.float32, **how)
    try:
        return counts.fit_transform(train), counts.transform(test)
    except ValueError as error:  # "empty vocabulary"
        raise DataError("None of the training texts has a word.") from error


cheap = (Cheap(name="TF-IDF of words", of=words), Cheap(name="TF-IDF of character n-grams", of=characters))
