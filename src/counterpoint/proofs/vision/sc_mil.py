"""SC-MIL beside cross-entropy and a constant share: bags of digits whose labels are as 1 to 5 to 20.

The features (plain principal components, after whitened ones) and the strength of the blur were chosen with seeds 10 to
13, where one view and the published temperature were kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from counterpoint.data.sampler import PxK
from counterpoint.data.schema import Row
from counterpoint.data.sets.registry import load
from counterpoint.encoders.vectors import VectorConfig, Vectors
from counterpoint.methods.vision.sc_mil import SCMIL, Config
from counterpoint.proofs.base import Proof, train

EVIDENCE, NEUTRAL = (3, 5, 8), (0, 1, 2, 4, 6)
"""Digits that decide the label of a bag, one each, and those that are in all bags."""
COUNTS, BAG, SHARE = (12, 58, 230), 24, 5
"""Bags of each label to learn from; instances of a bag, and how many of them are its evidence."""

ARMS: dict[str, dict[str, Any]] = {
    "sc-mil": {},
    "cross-entropy": {"curriculum": "none", "beta": 0.0},
    "constant share": {"curriculum": "none", "beta": 0.5},
    "contrast, then a linear classifier": {"curriculum": "none", "beta": 1.0},
    "cross-entropy, bags as they come": {"curriculum": "none", "beta": 0.0},
}


def bags_of(images: np.ndarray, digits: np.ndarray, counts: Sequence[int], rng: np.random.Generator) -> list[Row]:
    """Rows of bags of ``images`` ``(N, F)``: for each label so many."""
    of = {digit: np.flatnonzero(digits == digit) for digit in (*EVIDENCE, *NEUTRAL)}
    out: list[Row] = []
    for label, count in enumerate(counts):
        for _ in range(count):
            shown = [EVIDENCE[label]] * SHARE + rng.choice(NEUTRAL, BAG - SHARE).tolist()
            out.append({"bag": [images[rng.choice(of[digit])] for digit in shown], "label": label})
    return out


def blurred(images: np.ndarray) -> np.ndarray:
    """Images ``(N, H, W)`` as another instrument might show them: blurred, and with four fifths of the contrast."""
    from scipy.ndimage import gaussian_filter

    return 0.8 * gaussian_filter(images, (0, 0.7, 0.7))


def run(arm: str, seed: int, *, smoke: bool) -> dict[str, float]:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    def pixels(split: str) -> tuple[np.ndarray, np.ndarray]:
        held: Any = load("mnist", split)
        return np.stack([np.asarray(x, dtype=np.float32) / 255 for x in held["image"]]), np.array(held["label"])

    (known, digits), (unseen, others) = pixels("train"), pixels("test")
    features = PCA(64, random_state=0).fit(known.reshape(len(known), -1))
    width = float(features.explained_variance_.mean()) ** 0.5

    def reduced(x: np.ndarray) -> np.ndarray:
        return (features.transform(x.reshape(len(x), -1)) / width).astype(np.float32)  # type: ignore[no-any-return]

    rng = np.random.default_rng(seed)
    counts = tuple(max(2, c // 10) for c in COUNTS) if smoke else COUNTS
    bags = bags_of(reduced(known), digits, counts, rng)
    same = (10,) * 3 if smoke else (100,) * 3
    tests = {
        "": bags_of(reduced(unseen), others, same, np.random.default_rng([seed, 1])),
        ", blurred": bags_of(reduced(blurred(unseen)), others, same, np.random.default_rng([seed, 1])),
    }
    labels = np.array([row["label"] for row in bags])
    torch.manual_seed(seed)
    config = Config(labels=("rare", "some", "many"), projection=64, attention=64, **ARMS[arm])
    learner = SCMIL(Vectors(VectorConfig(features=64, widths=(128,), dim=64)), config)
    epochs = 1 if smoke else 40
    balanced = None if arm.endswith("as they come") else PxK(labels, 30, per_class=10, seed=seed)
    train(learner, bags, sampler=balanced, batch=30, epochs=epochs, lr=1e-3, stop_on_collapse=False, seed=seed)

    classify = learner.bags.classify
    if config.beta == 1:
        line = LogisticRegression(max_iter=2000).fit(learner.bags.encode([r["bag"] for r in bags]), labels)

        def classify(items: Sequence[Any]) -> np.ndarray:
            return line.predict_proba(learner.bags.encode(items))  # type: ignore[no-any-return]

    out = {}
    for name, rows in tests.items():
        truth, said = np.array([r["label"] for r in rows]), classify([r["bag"] for r in rows]).argmax(1)
        out[f"macro-F1{name}"] = float(f1_score(truth, said, average="macro"))
        out[f"recall of the rare label{name}"] = float((said[truth == 0] == 0).mean())
    return out


proof = Proof(
    SCMIL,
    claim="Of bags of digits whose labels are as 1 to 5 to 20, a curriculum from contrast to classification tells "
    "unseen bags apart better than cross-entropy alone, with the same balanced batches.",
    arms={
        "sc-mil": "from contrast to classification, batches with as many bags of every label",
        "cross-entropy": "the classifier alone, the same batches",
        "constant share": "contrast and classification with one half each, all the time",
        "contrast, then a linear classifier": "contrast alone, then logistic regression on the frozen features",
        "cross-entropy, bags as they come": "the classifier alone, batches as imbalanced as the bags",
    },
    metrics={
        "macro-F1": True,
        "recall of the rare label": True,
        "macro-F1, blurred": True,
        "recall of the rare label, blurred": True,
    },
    data=("mnist",),
    run=run,
    full="Lung and kidney slides of TCGA with frozen patch features, imbalances of 1:1 to 1:20: a few hours of "
    "features and minutes of training on one large GPU.",
    minutes=4,
)
