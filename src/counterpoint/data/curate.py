"""Triplets (anchor, positive, negative) of doubtful origin, kept by the scores that somebody gives their two pairs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from counterpoint.errors import DataError

_SCORE = re.compile(r"[0-5](\.\d)?")
_FEW = 20


@dataclass(frozen=True)
class Triplet:
    """anchor: a text. positive: one that means the same. negative: one that does not."""

    anchor: str
    positive: str
    negative: str


@dataclass
class Curated:
    """kept: triplets, in order. places: of each of them, among those given. swapped: kept ones whose two sides changed
    places. dropped: reason -> count."""

    kept: list[Triplet] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    swapped: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


def parse_score(text: str | None) -> float | None:
    """A score from 0.0 to 5.0 that stands alone, ``4`` or ``4.5``; None for all other answers.

    text: an answer.

    >>> parse_score(" 3.5 "), parse_score("3.5 out of 5"), parse_score("7")
    (3.5, None, None)
    """
    return float(text.strip()) if text is not None and _SCORE.fullmatch(text.strip()) else None


def sound(triplet: Triplet) -> str:
    """Why a triplet says nothing, '' where it may."""
    anchor, positive, negative = (_bare(t) for t in (triplet.anchor, triplet.positive, triplet.negative))
    if not (anchor and positive and negative):
        return "an empty text"
    if anchor in (positive, negative):
        return "a copy of the sentence"
    return "positive and negative are the same" if positive == negative else ""


def curate(
    triplets: Sequence[Triplet],
    scores: Iterable[tuple[float | None, float | None]],
    *,
    keep: float = 3.0,
    drop: float = 3.0,
    swap: bool = True,
) -> Curated:
    """The triplets whose positive is scored at least ``keep`` and whose negative at most ``drop``, and lower.

    scores: similarity (0 to 5) of the anchor with the positive and with the negative; None: not known. swap: a negative
    that is scored higher than the positive changes places with it first.

    Raises `DataError`, with a histogram of the scores, where nothing is kept.

    Source: Wang et al. 2024 (MultiCSR), arXiv 2310.10962, stage 2; lines as in the released code.
    """
    out, seen = Curated(), []
    for place, (triplet, (high, low)) in enumerate(zip(triplets, scores, strict=True)):
        if high is None or low is None:
            out.dropped["no score"] += 1
            continue
        seen += [high, low]
        turned = swap and low > high
        if turned:
            high, low = low, high
            triplet = Triplet(triplet.anchor, triplet.negative, triplet.positive)
        if why := _why(high, low, keep, drop):
            out.dropped[why] += 1
            continue
        out.swapped += turned
        out.kept.append(triplet)
        out.places.append(place)
    if triplets and not out.kept:
        raise DataError(_nothing(len(triplets), seen, keep, drop, out.dropped))
    return out


def histogram(scores: Sequence[float]) -> str:
    """How many scores lie in each half point: ``0.0: 3, 2.5: 1``."""
    counts = Counter(int(s * 2) / 2 for s in scores)
    return ", ".join(f"{edge}: {counts[edge]}" for edge in sorted(counts)) or "none"


def _why(high: float, low: float, keep: float, drop: float) -> str:
    if high == low:
        return "both scores are the same"
    if high < keep:
        return f"the positive is below {keep:g}"
    return f"the negative is above {drop:g}" if low > drop else ""


def _nothing(count: int, scores: Sequence[float], keep: float, drop: float, dropped: Counter[str]) -> str:
    why = ", ".join(f"{n} x {reason}" for reason, n in dropped.most_common())
    scale = ""
    if len(scores) >= _FEW and max(scores) <= 1:
        scale = " No score is above 1, so they seem to be given from 0 to 1: multiply them by 5."
    return (
        f"None of {count} triplets is left ({why}).{scale} Scores from each half point on: {histogram(scores)}. Choose "
        f"lines that part them: the positive at least keep={keep:g}, the negative at most drop={drop:g}."
    )


def _bare(text: str) -> str:
    """A text as far as it says something: without case, white space and signs at its ends."""
    return " ".join(text.lower().split()).strip(" .!?\"'")
