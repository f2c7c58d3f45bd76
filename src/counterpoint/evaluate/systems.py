"""What stands beside an encoder, by the kind of data: which baselines there are, and which are usual."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from counterpoint.encoders.bag_attention import BagEncoder
from counterpoint.encoders.base import Encoder
from counterpoint.errors import ConfigError, CounterpointError
from counterpoint.evaluate.baselines import fresh
from counterpoint.evaluate.tasks import Samples
from counterpoint.modalities.text import TEXT
from counterpoint.search.ngrams import hashed_ngrams
from counterpoint.views.features import Cheap, Matrix, features_of

MODEL = "model"
BEFORE, RANDOM = "encoder before training", "random encoder"
"""The weights that the training began with, and, where nobody has kept them, newly drawn ones."""
MAPPED = "ridge on cheap features"
MOST_ENCODED = 20_000
"""Items of a retrieval set up to which the encoder before training, or a random one, stands beside it unasked."""

BASELINES = {
    "retrieval": ("bm25", "hashed n-grams", BEFORE, RANDOM, "random ranking"),
    "pairs": ("bm25", "hashed n-grams", BEFORE, RANDOM, "random ranking"),
    "scored": ("hashed n-grams", BEFORE, RANDOM),
    "labelled": ("majority", "hashed n-grams", BEFORE, RANDOM),
    "towers": ("random ranking", BEFORE, RANDOM, MAPPED),
}
"""The baselines that each kind of data can have, beside those of `counterpoint.views.features.cheap` for its items."""

_NEEDS_TEXT = {"bm25", "hashed n-grams"}
_RANKED = {"retrieval", "pairs", "towers"}

Embed: TypeAlias = Callable[[Sequence[Any], str | None], np.ndarray]
"""Items and their role (query, document, None) to embeddings ``(N, D)``."""


@dataclass(kw_only=True)
class Beside:
    """The baselines of one evaluation.

    names: in order, all that are to be measured. asked: whether somebody named them; one that is only usual and cannot
    be measured is left out, and `notes` says why. cheap, embedding: those that give features, by name.
    """

    names: tuple[str, ...]
    asked: bool
    cheap: Mapping[str, Cheap] = field(default_factory=dict)
    embedding: Mapping[str, Embed] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def measured(self, of: Callable[[str], Samples]) -> dict[str, Samples]:
        """Name -> metrics, of all that can be measured. of: from a name to its metrics."""
        out = {}
        for name in self.names:
            try:
                out[name] = of(name)
            except CounterpointError as error:
                if self.asked:
                    raise
                self.notes.append(f"The baseline {name} was not measured: {error}")
        return out

    def vectors(
        self,
        name: str,
        train: Sequence[Any],
        test: Sequence[Any],
        *,
        roles: tuple[str | None, str | None] = (None, None),
    ) -> tuple[Matrix, Matrix]:
        """What a baseline makes of items to learn from (or documents) and of test items (or queries).

        name: of the baseline. train, test: the items. roles: whose prompts are put before them.
        """
        if embed := self.embedding.get(name):
            return embed(train, roles[0]), embed(test, roles[1])
        found = self.cheap[name].features(train, test)
        if found.cut:
            self.notes.append(f"{name}: {found.cut}.")
        return found.train, found.test


def beside(
    kind: str, asked: Sequence[str] | None, encoder: Encoder, start: Encoder | None, *, items: int = 0, seed: int = 0
) -> Beside:
    """The baselines to measure for rows of one modality: those asked for, else those usual for the kind and for what
    the encoder reads.

    start: the encoder before training, if somebody has it. items: how many would be ranked. Raises `ConfigError` for a
    baseline that cannot be. kind: of rows. asked: names of baselines (None: the usual ones). encoder: the trained one.
    seed: of what is drawn for baselines.
    """
    bags = isinstance(encoder, BagEncoder)
    text = encoder.modality == TEXT and not bags
    cheap = {c.name: c for c in features_of(encoder.modality, bags=bags) if kind == "labelled" or c.by == "linear"}
    if asked is None:
        names = ["majority", *cheap] if kind == "labelled" else [*cheap]
        if kind in _RANKED:
            names = ["bm25"] if text else ["random ranking", *cheap]
        found = _usual([*names, RANDOM if start is None else BEFORE], kind, items)
    else:
        for name in asked:
            _check(name, kind, cheap, text=text, kept=start is not None)
        found = Beside(names=tuple(asked), asked=True)
    found.cheap, found.embedding = cheap, _embedding(encoder, found.names, start, seed=seed)
    return found


def beside_towers(asked: Sequence[str] | None, *, kept: bool, items: int, learned: bool) -> Beside:
    """The same for rows of two modalities. kept: whether somebody has the encoders before training. learned: whether
    there are rows to learn from.

    asked: names of baselines (None: the usual ones). items: how many would be ranked.
    """
    if asked is None:
        return _usual(["random ranking", BEFORE if kept else RANDOM, *([MAPPED] if learned else [])], "towers", items)
    for name in asked:
        _check(name, "towers", {}, text=False, kept=kept)
        if name == MAPPED and not learned:
            raise ConfigError(f"The baseline {MAPPED!r} learns from training rows: give --train FILE (train=...).")
    return Beside(names=tuple(asked), asked=True)


def _usual(names: list[str], kind: str, items: int) -> Beside:
    slow = [name for name in names if name in (BEFORE, RANDOM)] if kind in _RANKED and items > MOST_ENCODED else []
    notes = [
        f"The {name} was not measured, as it would have to encode {items:,} items (--baselines {name!r} does so)."
        for name in slow
    ]
    return Beside(names=tuple(name for name in names if name not in slow), asked=False, notes=notes)


def _check(name: str, kind: str, cheap: Mapping[str, Cheap], *, text: bool, kept: bool) -> None:
    if name not in cheap and name not in BASELINES[kind]:
        known = ", ".join((*BASELINES[kind], *cheap))
        raise ConfigError(f"There is no baseline {name!r} for {kind} data. Use: {known}.")
    if name in _NEEDS_TEXT and not text:
        raise ConfigError(f"The baseline {name!r} reads text, which these items are not.")
    if name == BEFORE and not kept:
        raise ConfigError(f"Nobody has kept the {BEFORE}: name a run folder (start=...), or the baseline {RANDOM!r}.")


def _embedding(encoder: Encoder, names: Sequence[str], start: Encoder | None, *, seed: int) -> dict[str, Embed]:
    """Those of the baselines that embed items one by one, as encoders do."""

    def by(one: Encoder) -> Embed:
        return lambda items, role: one.encode(items, role=role)

    out: dict[str, Embed] = {}
    if BEFORE in names and start is not None:
        out[BEFORE] = by(start)
    if RANDOM in names:
        out[RANDOM] = by(fresh(encoder, seed=seed))
    if "hashed n-grams" in names:
        out["hashed n-grams"] = lambda items, role: hashed_ngrams(items)
    return out


def alike(z: np.ndarray, items: Sequence[Any]) -> list[str]:
    """The note, in a list, on different items that all have the same embedding ``(N, D)``; empty for others.

    z: the embeddings. items: N, in their order.
    """
    same = len(z) < 2 or all(isinstance(item, str) and item == items[0] for item in items)
    if same or float(np.abs(z - z[0]).max()) > 1e-6 * max(1.0, float(np.abs(z[0]).max())):
        return []
    return [
        f"All {len(z):,} items have the same embedding: the model tells nothing apart. It has collapsed, or knows "
        "nothing of what they hold. What it measures is chance, or the order of the rows."
    ]
