"""What figures of an embedding space mean: a sentence for each, and what to change where one is out of range.

The bounds are rules of thumb; each stands where it is used, with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

DUPLICATE = 0.99
"""Cosine above which two rows count as one."""


@dataclass
class Measured:
    """The figures. rows ``N``, dim ``D``, and what `evaluate.diagnose.examine` took of them; None: not taken.

    random_cosine: mean of two rows. rank_of: what the effective rank could be at most. occurrences: ``(N,)``, how often
    a row is among the ten nearest of others. nearer: share of the anchors to which the positive of another is nearer
    than their own; nearer_each: how many such. effective: mean number of negatives pushed, per temperature. duplicates:
    share of rows. temperature: of the training. temperatures: of ``effective``. skewness, anti_hubs: of the
    occurrences, and the share of rows that are among nobody's ten. negatives: of an anchor. pairs: how many. judged:
    they come with scores. alignment, uniformity, tolerance, isotropy, effective_rank: as of the functions of these
    names. other_cosine: mean of an anchor and another's positive. gap: between two modalities. same_class: share of the
    ten nearest; same_class_by_chance: what it would be by chance. classes: how many. histograms: name -> shares of
    cosines. examples: name -> what the report shows.
    """

    rows: int
    dim: int
    random_cosine: float
    uniformity: float
    isotropy: float
    effective_rank: float
    rank_of: int
    occurrences: np.ndarray
    duplicates: float
    temperature: float | None
    temperatures: Sequence[float]
    skewness: float = 0.0
    anti_hubs: float = 0.0
    negatives: int = 0
    effective: np.ndarray | None = None
    pairs: int = 0
    judged: bool = False
    alignment: float | None = None
    other_cosine: float = 0.0
    gap: float | None = None
    nearer: float | None = None
    nearer_each: float = 0.0
    tolerance: float | None = None
    same_class: float = 0.0
    same_class_by_chance: float = 0.0
    classes: int = 0
    histograms: dict[str, list[float]] = field(default_factory=dict)
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """A figure (None: not known), whether it asks for a change, and the sentence that says what it means or what to
    change.

    name: of the figure. value: the figure. act: asks for a change.
    """

    name: str
    value: float | None
    act: bool
    says: str


@dataclass(frozen=True)
class Diagnosis:
    """findings: in order. counts: rows, pairs, ... temperature: that of the training. hardness: by temperature, how
    many negatives the loss pushes. occurrences: ``(N,)``. histograms: of cosines, in 50 parts of [-1, 1]. examples:
    rows to look at. notes: what was chosen and left out. seconds: wall time."""

    findings: tuple[Finding, ...]
    counts: dict[str, int]
    temperature: float | None
    hardness: dict[float, float]
    occurrences: np.ndarray
    histograms: dict[str, list[float]]
    examples: dict[str, list[dict[str, Any]]]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    def __getitem__(self, name: str) -> Finding:
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(f"{name!r}; this diagnosis has {', '.join(f.name for f in self.findings)}")

    def __contains__(self, name: object) -> bool:
        return any(finding.name == name for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return {
            "findings": [{"name": f.name, "value": f.value, "act": f.act, "says": f.says} for f in self.findings],
            "counts": self.counts,
            "temperature": self.temperature,
            "effective negatives": {f"{t:g}": round(n, 3) for t, n in self.hardness.items()},
            "examples": self.examples,
            "notes": list(self.notes),
            "seconds": round(self.seconds, 2),
        }


def diagnosis(m: Measured, *, seconds: float) -> Diagnosis:
    """Every finding that the figures allow.

    m: the figures. seconds: that it took.
    """
    found = [alignment(m), spread(m), tolerance(m), hardness(m), isotropy(m), rank(m), *hubness(m), duplicates(m)]
    found += [nearer(m), same_class(m), gap(m)]
    counts = {"rows": m.rows, "dimensions": m.dim, "pairs": m.pairs, "classes": m.classes}
    return Diagnosis(
        findings=tuple(f for f in found if f is not None),
        counts={name: n for name, n in counts.items() if n},
        temperature=m.temperature,
        hardness={} if m.effective is None else dict(zip(m.temperatures, m.effective.tolist())),
        occurrences=m.occurrences,
        histograms=m.histograms,
        examples={name: rows for name, rows in m.examples.items() if rows},
        seconds=seconds,
    )


def alignment(m: Measured) -> Finding | None:
    """How near positives are, beside others. m: the figures."""
    if m.alignment is None:
        return None
    cosine = 1 - m.alignment / 2
    said = f"Positives have a mean cosine of {cosine:.2f}, others {m.other_cosine:.2f}."
    # Under two tenths of a cosine apart, positives drown among a few hundred candidates.
    if cosine - m.other_cosine < 0.2:
        more = " That is hardly nearer: look whether the pairs belong together, train longer, or take weaker views."
        return Finding("alignment", m.alignment, True, said + more)
    return Finding("alignment", m.alignment, False, said + " They are found.")


def spread(m: Measured) -> Finding:
    """How much of the sphere is used. m: the figures."""
    said = "Log of the mean Gaussian potential: 0 is one point, -4 the whole sphere."
    # -1.5 is where all pairs have a cosine of about 0.6: more than half of the sphere is empty.
    if m.uniformity > -1.5:
        said += " Much of the sphere is empty: lower the temperature, take more negatives, or whiten the embeddings."
        return Finding("uniformity", m.uniformity, True, said)
    return Finding("uniformity", m.uniformity, False, said + " The sphere is used.")


def tolerance(m: Measured) -> Finding | None:
    """How near rows of one class are, beside any two. m: the figures."""
    if m.tolerance is None or math.isnan(m.tolerance):
        return None
    said = f"Mean cosine of two rows of one class; of any two rows it is {m.random_cosine:.2f}."
    if m.tolerance - m.random_cosine < 0.1:
        said += " Classes are pushed apart like strangers: raise the temperature, or train with the labels."
        return Finding("tolerance", m.tolerance, True, said)
    return Finding("tolerance", m.tolerance, False, said + " Classes hold together.")


def reach(m: Measured, wanted: float) -> float:
    """The temperature at which the loss pushes so many negatives, between those that were tried.

    m: the figures. wanted: how many.
    """
    assert m.effective is not None
    return float(np.exp(np.interp(np.log(wanted), np.log(m.effective), np.log(m.temperatures))))


def hardness(m: Measured) -> Finding | None:
    """How many negatives the loss pushes at the training's temperature. m: the figures."""
    if m.effective is None or m.negatives < 8:
        return None
    low, high = reach(m, 2), reach(m, m.negatives / 2)
    between = f"From T = {low:.2g} (two negatives) to {high:.2g} (half of them) the loss tells negatives apart."
    if m.temperature is None:
        said = f"{between} The training temperature is not known: give it with --temperature."
        return Finding("hardness", None, False, said)
    pushed = float(np.exp(np.interp(np.log(m.temperature), np.log(m.temperatures), np.log(m.effective))))
    said = f"At T = {m.temperature:.3g} the loss pushes {pushed:,.1f} of {m.negatives:,} negatives. {between}"
    if pushed < 2:
        said += " Only the nearest neighbour is pushed, which may well be a false negative: raise the temperature."
    elif pushed > m.negatives / 2:
        said += " All are pushed nearly alike: lower the temperature, or keep the hardest alone (HardQuantile)."
    return Finding("hardness", pushed, not 2 <= pushed <= m.negatives / 2, said)


def isotropy(m: Measured) -> Finding:
    """Whether the embeddings point one way. m: the figures."""
    said = f"1: every direction looks alike. Two random rows have a mean cosine of {m.random_cosine:.2f}."
    # A mean vector of length c makes it about exp(-2 c): 0.4 is a mean cosine of 0.2.
    if m.isotropy < 0.4:
        said += " The embeddings point one way: subtract their mean or whiten them, lower the temperature."
        return Finding("isotropy", m.isotropy, True, said)
    return Finding("isotropy", m.isotropy, False, said)


def rank(m: Measured) -> Finding:
    """How many directions are in use. m: the figures."""
    said = f"Directions in use, of {m.rank_of}."
    if m.effective_rank < max(2.0, 0.1 * m.rank_of):
        said += " Most dimensions are idle: take more negatives, decorrelate or whiten, or store fewer dimensions."
        return Finding("effective rank", m.effective_rank, True, said)
    return Finding("effective rank", m.effective_rank, False, said)


def hubness(m: Measured) -> list[Finding]:
    """Whether a few rows are everybody's neighbours, and how many are nobody's. m: the figures."""
    most = int(m.occurrences.max())
    said = f"Skewness of how often a row is among the ten nearest of others; the largest hub is so {most:,} times."
    hubs = m.skewness > 2
    if hubs:
        said += " A few rows are everyone's neighbour: centre the embeddings, look at the hubs, or whiten."
    anti = "Rows that are among nobody's ten nearest."
    lost = m.anti_hubs > 0.2
    if lost:
        anti += " A search by neighbours never shows them: centre or whiten the embeddings, or train with a queue."
    return [Finding("hubness", m.skewness, hubs, said), Finding("anti-hubs", m.anti_hubs, lost, anti)]


def duplicates(m: Measured) -> Finding:
    """How many rows are as good as equal to another. m: the figures."""
    said = f"Rows with another one above a cosine of {DUPLICATE}."
    if m.duplicates > 0.01:
        said += " As negatives of one another they destroy structure, the more the lower T: deduplicate the data."
        return Finding("duplicates", m.duplicates, True, said)
    return Finding("duplicates", m.duplicates, False, said)


def nearer(m: Measured) -> Finding | None:
    """How often the positive of another is nearer than an anchor's own. m: the figures."""
    if m.nearer is None:
        return None
    said = f"Anchors to which the positive of another is nearer than their own; {m.nearer_each:.2g} such each."
    if m.nearer > 0.1:
        said += (
            " Look at the examples: where these are right answers too, mask them with a guide (FalseNegatives) or take "
            "several positives; where not, mine hard negatives or train longer."
        )
        return Finding("nearer than the positive", m.nearer, True, said)
    return Finding("nearer than the positive", m.nearer, False, said)


def same_class(m: Measured) -> Finding | None:
    """How many of the nearest rows, negatives without labels, are of the same class. m: the figures."""
    if m.tolerance is None:
        return None
    said = f"Of the ten nearest, those of the same class; by chance {m.same_class_by_chance:.2f}."
    if m.same_class > 0.5:
        said += (
            " Without labels these are the hardest negatives, and false ones: train with the labels, with a "
            f"larger T, or with Debiased({m.same_class_by_chance:.2g})."
        )
        return Finding("same-class neighbours", m.same_class, True, said)
    return Finding("same-class neighbours", m.same_class, False, said)


def gap(m: Measured) -> Finding | None:
    """How far apart two modalities lie. m: the figures."""
    if m.gap is None:
        return None
    said = "Distance between the means of the two modalities."
    if m.gap > 0.5:
        said += " Each lives in a place of its own: centre each before both go into one index; a larger T helps."
        return Finding("modality gap", m.gap, True, said)
    return Finding("modality gap", m.gap, False, said)
