"""Questions to an index, by texts and by items of any modality; without torch where texts can be encoded so."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from counterpoint.errors import ConfigError, DataError, ModelError
from counterpoint.modalities.text import TEXT
from counterpoint.search.hybrid import Share
from counterpoint.search.index import Encodes, Hit, Index, Mode
from counterpoint.workflow.questions import encoder_for, item_for, read_item, weights

How: TypeAlias = Literal["auto", "dense", "bm25", "hybrid"]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What an index answered.

    asked: every question, as it is shown. hits: of each, best first. mode: of the questions in words (of items:
    dense). share: the weights of a hybrid. seconds: of encoding and searching.
    """

    index: Index
    asked: list[str]
    hits: list[list[Hit]]
    mode: Mode
    share: Share
    seconds: float


def search(
    folder: Path | str,
    queries: str | Sequence[str] = (),
    *,
    items: Sequence[tuple[str, Any]] = (),
    k: int = 5,
    mode: How = "auto",
    alpha: float | None = None,
    oversample: int | None = None,
) -> list[list[Hit]]:
    """The best hits of each question to an index, best first: of the queries, then of the items.

    folder: an index folder, or a run folder that holds one. queries: questions in words. items: (modality, item) to
    search for: ``("image", "cat.png")``, ``("table", {"a": 1})``; of a file its path, or the item itself. Each is
    encoded by the tower of its own modality of the model that built the index. k: hits per question. mode: ``dense``,
    ``bm25``, ``hybrid``, or ``auto``: hybrid where the index has words; items are searched for by their embeddings.
    alpha: share of the dense score in a hybrid (None: that of the index). oversample: as of `Index.nearest`.

    Raises `DataError` for an item that cannot be read, `ModelError` for an index that is damaged and for a model that
    has no tower for a question, or has changed since.
    """
    asked = [queries] if isinstance(queries, str) else queries
    return ask(folder, asked, items=items, k=k, mode=mode, alpha=alpha, oversample=oversample).hits


def ask(
    folder: Path | str,
    queries: Sequence[str],
    *,
    items: Sequence[tuple[str, Any]],
    k: int,
    mode: How,
    alpha: float | None,
    oversample: int | None,
) -> Answers:
    """As `search`, with what was done."""
    texts = [*queries, *(str(value) for name, value in items if name == TEXT)]
    others = [(name, value) for name, value in items if name != TEXT]
    if not (texts or others) or not all(text.strip() for text in texts):
        raise DataError(f'The question is empty. Type for instance: counterpoint search {folder} "parse an ISO date"')
    if others and mode in ("bm25", "hybrid"):
        raise ConfigError(f"The mode {mode} compares words, and {others[0][0]} has none: leave --mode out.")
    folder = Path(folder)
    index = Index.open(folder / "index" if (folder / "index").is_dir() else folder)
    chosen: Mode = mode if mode != "auto" else "hybrid" if index.bm25 is not None and texts else "dense"
    share = index.share if alpha is None else Share(alpha, "--alpha")
    read = [(name, read_item(name, value)) for name, value in others]
    encoders = _encoders(index, [name for name, _ in read], in_words=bool(texts) and chosen != "bm25")
    start = time.perf_counter()
    hits: list[list[Hit]] = []
    if texts:
        encoder = encoders.get(TEXT)
        hits = index.search(texts, encoder=encoder, k=k, mode=chosen, alpha=share.alpha, oversample=oversample)
    for name, item in read:
        asked = item_for(encoders[name], item)
        hits += index.find([asked], encoder=encoders[name], k=k, oversample=oversample)
    seconds = time.perf_counter() - start
    labels = [*texts, *(f"{name}: {str(value)[:80]}" for name, value in others)]
    return Answers(index=index, asked=labels, hits=hits, mode=chosen, share=share, seconds=seconds)


def _encoders(index: Index, names: Sequence[str], *, in_words: bool) -> dict[str, Encodes]:
    """Modality -> encoder of the questions; `ModelError` where the model is not the one that built the index."""
    if index.model is None:
        if names:
            raise ModelError(
                f"The index {index.folder} does not say which model built it: ask it in Python, by vectors."
            )
        return {}
    held = index.settings.get("items") or {}
    # Texts of an index of texts are compared by a probe, which needs no reading of all weights.
    told = held.get("weights") if names or (in_words and held.get("modality") != TEXT) else None
    if told and index.model.is_dir() and weights(index.model) != told:
        raise ModelError(
            f"The index {index.folder} was built by another model, or by this one before it was trained further. "
            "Build the index again."
        )
    wanted = [*([TEXT] if in_words else []), *names]
    return {name: encoder_for(index.model, name) for name in dict.fromkeys(wanted)}
