"""Pairings: what each score should be, which pairs do not exist, how much each negative weighs.

    contrast(z, z, Labels(y) & NotSelf(), scale=10.0)
    contrast(q, k, Diagonal() & FalseNegatives(guide_q, guide_k, margin=0.05) & Hardness(0.5), scale=20.0, extra=hard)

One target rule (`Diagonal`, `Labels`, `views`, `MultiLabel`, `Listed`, `Soft`, `TeacherSimilarity`), and any number of
masks (`NotSelf`, `NotSame`, `OnlySame`, `OnlyOwn`, `NotNear`, `FalseNegatives`, `HardQuantile`), weights of negatives
(`Hardness`, `Importance`, `LogWeights`) and adjustments (`Margin`, `Decoupled`, `Debiased`), in any order.
"""

from counterpoint.objectives.hard import HardQuantile
from counterpoint.objectives.masks import FalseNegatives, NotNear, NotSame, NotSelf, OnlyOwn, OnlySame
from counterpoint.objectives.rules import Margin, Pairing, Rule
from counterpoint.objectives.targets import (
    Diagonal,
    Labels,
    Listed,
    MultiLabel,
    Soft,
    TeacherSimilarity,
    views,
)
from counterpoint.objectives.weights import Debiased, Decoupled, Hardness, Importance, LogWeights

__all__ = [
    "Debiased",
    "Decoupled",
    "Diagonal",
    "FalseNegatives",
    "HardQuantile",
    "Hardness",
    "Importance",
    "Labels",
    "Listed",
    "LogWeights",
    "Margin",
    "MultiLabel",
    "NotNear",
    "NotSame",
    "NotSelf",
    "OnlyOwn",
    "OnlySame",
    "Pairing",
    "Rule",
    "Soft",
    "TeacherSimilarity",
    "views",
]
