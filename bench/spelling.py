"""A static encoder that begins alike where subwords are spelled alike, beside one that begins at random.

    python bench/spelling.py

Both are what `counterpoint fit` trains from scratch: the small recipe of the method, the same rows and three seeds. Few
rows and all of them; what is measured was not trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from datasets import Dataset

from _table import Result, finish
from counterpoint.data.infer import infer
from counterpoint.data.loader import Loader
from counterpoint.data.rows import Rows
from counterpoint.data.sampler import Shuffled
from counterpoint.data.sets.registry import find as entry
from counterpoint.data.sets.registry import load
from counterpoint.encoders.static import StaticText
from counterpoint.evaluate.knn import predict
from counterpoint.evaluate.similarity import spearman
from counterpoint.methods.base import find
from counterpoint.train.loop import Trainer

SHARE, SEEDS, FEW = 0.5, (0, 1, 2), 1_000


def trained(method: str, name: str, data: Dataset, *, share: float, seed: int) -> StaticText:
    rows = Rows(data, infer(data, columns=entry(name).columns))
    recipe = find(method).recipe("small")
    torch.manual_seed(seed)
    encoder = StaticText.from_texts(rows.texts(), replace(recipe.encoder_of("text"), spelling=share))
    train = replace(recipe.train, seed=seed, progress=False, batch=min(recipe.train.batch, len(rows)))
    Trainer(
        find(method)(encoder, recipe.config), Loader(rows, Shuffled(len(rows), train.batch, seed=seed)), train
    ).fit()
    return encoder.eval()


def similar(encoder: StaticText) -> float:
    rows = load("stsb-en", "test")
    a, b = (encoder.encode(rows[c]) for c in ("sentence1", "sentence2"))
    return spearman((a * b).sum(1), np.asarray(rows["score"], dtype=np.float64))


def found(encoder: StaticText, held: Dataset) -> float:
    """MRR of the bodies among those of all held-out docstrings."""
    scores = encoder.encode(held["summary"]) @ encoder.encode(held["body"]).T
    ranks = (scores > scores.diagonal()[:, None]).sum(axis=1)
    return float(np.mean(1 / (1 + ranks)))


def intents(encoder: StaticText, known: Dataset) -> float:
    test = load("clinc150", "test")
    names = sorted(set(known["intent"]))
    y = np.array([names.index(i) for i in known["intent"]])
    told = predict(encoder.encode(known["text"]), y, encoder.encode(test["text"]), k=20)
    return float(np.mean([names[t] == i for t, i in zip(told, test["intent"], strict=True)]))


def main() -> None:
    every = load("docstrings").shuffle(seed=0)
    held, docs = every.select(range(1_000)), every.select(range(1_000, len(every)))
    nli, clinc = load("nli").shuffle(seed=0), load("clinc150", "train").shuffle(seed=0)
    tasks: list[tuple[str, str, str, Dataset, Callable[[StaticText, Dataset], float], str]] = [
        ("docstrings", "in-batch", "docstrings", docs, lambda e, _: found(e, held), "MRR"),
        ("entailment, STS-B", "in-batch", "nli", nli, lambda e, _: similar(e), "Spearman"),
        ("intents, clinc150", "supcon", "clinc150", clinc, intents, "kNN accuracy"),
    ]
    results = []
    for title, method, name, data, measure, metric in tasks:
        for n in (FEW, len(data)):
            part = data.select(range(n))
            ours, plain = (
                [measure(trained(method, name, part, share=share, seed=seed), part) for seed in SEEDS]
                for share in (SHARE, 0.0)
            )
            apart = np.subtract(ours, plain)
            print(title, n, ours, plain, flush=True)
            results.append(
                Result(
                    case=f"{title}, {n:,} rows to learn from",
                    metric=f"{metric} (difference {apart.mean():+.3f}, seeds {apart.min():+.3f} to {apart.max():+.3f})",
                    unit="",
                    ours=float(np.mean(ours)),
                    peer=float(np.mean(plain)),
                    peer_name="begun at random",
                    higher_is_better=True,
                )
            )
    finish("spelling", results)


if __name__ == "__main__":
    main()
