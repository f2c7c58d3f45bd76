"""The main job: semantic code search over the Python packages on this machine. Command: counterpoint demo

Pairs of (first paragraph of the docstring, function) are harvested with `ast` from the standard library and the
installed packages. The function is its source without the docstring, from the ``def`` line on; BM25 and the encoder see
the same. Whole packages are held out: some to choose the stopping point and the weight of the hybrid (dev), some to be
measured on once (test). An encoder of weighted subwords is trained from scratch by in-batch ranking, measured beside
BM25 and the hybrid of both on the packages it never saw, and put into an index of every documented function on the
machine.
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from rich.table import Table

import counterpoint
from counterpoint._version import __version__
from counterpoint.data.loader import Loader
from counterpoint.data.rows import Rows
from counterpoint.data.sampler import NoDuplicates
from counterpoint.data.schema import Schema
from counterpoint.data.sets.code import CodePair, harvest, split
from counterpoint.encoders import folder as model_folder
from counterpoint.encoders.layout import write_json
from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.errors import DataError
from counterpoint.evaluate.hybrid_share import learn_share, lists
from counterpoint.evaluate.intervals import difference, interval, mean
from counterpoint.evaluate.retrieval import Judgements, measure
from counterpoint.methods.text.in_batch import Config, InBatch
from counterpoint.modalities.text import TEXT
from counterpoint.report import page
from counterpoint.report.collect import collect
from counterpoint.search.bm25 import BM25
from counterpoint.search.exact import Run, top_k
from counterpoint.search.hybrid import Share, weighted
from counterpoint.search.index import Index
from counterpoint.terminal import Console
from counterpoint.train.config import TrainConfig
from counterpoint.train.loop import Trainer
from counterpoint.train.run import Run as RunFolder

METRICS = ("mrr@10", "ndcg@10", "recall@10", "recall@100")
SEARCHES = ("parse an ISO date", "remove duplicates while keeping the order", "retry a request with backoff")

SCHEMA = Schema(
    kind="pairs",
    columns={"anchor": TEXT, "positive": "code"},
    modalities={"anchor": TEXT, "positive": TEXT},
    why="pairs: a docstring's first paragraph and the function it describes.",
)


@dataclass(frozen=True)
class Size:
    """dim: width of the encoder. batch, steps: of training. pairs: most pairs to train on. queries: most per part."""

    dim: int
    batch: int
    steps: int
    pairs: int
    queries: int


SIZES = {"full": Size(1024, 1024, 72, 1_000_000, 5_000), "smoke": Size(256, 256, 20, 6_000, 400)}


def run(
    folder: Path | str = "runs/demo", *, size: str = "full", seed: int = 0, overwrite: bool = False
) -> dict[str, Any]:
    """Harvest, train, measure, index; returns what ``metrics.json`` holds.

    folder: the run folder. size: ``full`` (a few minutes on two cores) or ``smoke``.
    seed: of what is drawn. overwrite: replace a run there.
    """
    folder, chosen, console = Path(folder), SIZES[size], Console(highlight=False)
    RunFolder(folder, resume=False, overwrite=overwrite)  # refuses before the work, not after it
    if overwrite:
        for name in ("model", "index", "report"):
            shutil.rmtree(folder / name, ignore_errors=True)
    clock = Clock(console)
    with clock("harvest"):
        pairs = harvest()
        parts = split(pairs)
        train = documented(pairs, parts.train)[: chosen.pairs]
        dev, test = (Held(documented(pairs, rows), chosen.queries) for rows in (parts.dev, parts.test))
    console.print(
        f"{sum(bool(p.text) for p in pairs):,} documented functions of {len(parts.parts):,} packages: {len(train):,} "
        f"to train on, {len(test.corpus):,} of {count(test.corpus)} packages held out ({len(test.queries):,} queries)."
    )
    with clock("train"):
        method = learn(train, dev, chosen, folder, seed)
        encoder = method.encoder
        assert isinstance(encoder, StaticText)
        model_folder.save(encoder, folder / "model")
    with clock("evaluate"):
        share = best_share(encoder, dev)
        figures = {
            name: measure(ids, test.judgements, metrics=METRICS).values for name, ids in test.rank(encoder, share.alpha)
        }
    with clock("index"):
        every = [p for p in pairs if p.text][: None if size == "full" else 4_000]
        build_index(every, encoder, folder, share)
    with clock("report"):
        metrics = {
            "title": "Semantic code search over this machine's Python packages",
            "why": "In-batch ranking of docstrings and functions, from scratch; packages measured on were never seen.",
            "method": "in-batch",
            "systems": {name: {m: float(x.mean()) for m, x in found.items()} for name, found in figures.items()},
            "intervals": intervals(figures),
            "differences": differences(figures),
            "share": share.alpha,
            "hybrid": share.to_json(),
            "pairs": len(train),
            "documents": len(test.corpus),
            "queries": len(test.queries),
            "packages": {part: sorted(k for k, v in parts.parts.items() if v == part) for part in ("test", "dev")},
            "size": size,
            "seed": seed,
            "versions": versions(),
        }
        vectors = encoder.encode([p.code for p in test.corpus], role="document")
        shown = [f"{p.name}: {p.text}" for p in test.corpus]
        collect(folder, vectors, shown, groups=[p.package for p in test.corpus])
    metrics["seconds"] = {name: round(s, 1) for name, s in clock.seconds.items()}
    write_json(folder / "metrics.json", metrics)
    report = page.write(folder)
    show(console, metrics, folder, encoder)
    console.print(f'\nReport: {report}\nAsk it yourself: counterpoint search {folder} "parse an ISO date"')
    return metrics


class Clock:
    """Seconds per phase, each announced as it ends."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[phase] = time.perf_counter() - start
        self.console.print(f"{phase}: {self.seconds[phase]:.1f} s", style="dim")


class Held:
    """A held-out part: its documented functions are the corpus, those whose docstring is nobody else's the queries."""

    def __init__(self, corpus: Sequence[CodePair], most: int) -> None:
        if not corpus:
            raise DataError("No package could be held out: fewer packages are installed here than the demo needs.")
        self.corpus = list(corpus)
        times = Counter(p.text for p in corpus)
        relevant = [i for i, p in enumerate(corpus) if times[p.text] == 1]
        if len(relevant) > most:  # spread evenly, so that every package keeps its share
            relevant = [relevant[i] for i in np.linspace(0, len(relevant) - 1, most).astype(int)]
        self.queries = [self.corpus[i].text for i in relevant]
        self.judgements = Judgements([{i: 1.0} for i in relevant])
        self._bm25: BM25 | None = None

    def lists(self, encoder: StaticText) -> tuple[Run, Run, np.ndarray]:
        """What a hybrid is the sum of, see `fusion.lists`."""
        if self._bm25 is None:
            self._bm25 = BM25([p.code for p in self.corpus], tokenizer="code")
        return lists(self.queries, *self.embedded(encoder), self._bm25)

    def embedded(self, encoder: StaticText) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors of the queries and of the functions."""
        queries = encoder.encode(self.queries, role="query", normalize=True)
        return queries, encoder.encode([p.code for p in self.corpus], role="document", normalize=True)

    def rank(self, encoder: StaticText, alpha: float) -> Iterator[tuple[str, np.ndarray]]:
        """(system, document numbers (Q, 100)) of the dense encoder, of BM25 and of their hybrid."""
        dense, lexical, average = self.lists(encoder)
        yield "dense", dense[1][:, :100]
        yield "bm25", lexical[1][:, :100]
        yield "hybrid", weighted(dense, lexical, k=100, alpha=alpha, average=average)[1]

    def mrr(self, ids: np.ndarray) -> float:
        return float(measure(ids, self.judgements, metrics=("mrr@10",)).values["mrr@10"].mean())


def documented(pairs: Sequence[CodePair], rows: Sequence[int]) -> list[CodePair]:
    return [pairs[i] for i in rows if pairs[i].text]


def count(pairs: Sequence[CodePair]) -> int:
    return len({p.package for p in pairs})


def learn(train: Sequence[CodePair], dev: Held, size: Size, folder: Path, seed: int) -> InBatch:
    """An encoder of weighted subwords, trained by in-batch ranking; the best step on dev is kept."""
    rows = Rows(Dataset.from_dict({TEXT: [p.text for p in train], "code": [p.code for p in train]}), SCHEMA)
    torch.manual_seed(seed)  # the embeddings are drawn here, before the trainer seeds itself
    encoder = StaticText.from_texts(
        (text[:2000] for text in rows.texts()),
        StaticTextConfig(
            dim=size.dim,
            model="bpe",
            identifiers=True,
            min_frequency=3,
            max_length=1024,
            aggregate="saturating",
            idf_power=0.6,
            spelling=0.5,
            token_dropout=0.3,
        ),
        prompts={"document": "[CLS] "},  # a token of its own keeps short functions from being all rare words
    )
    config = TrainConfig(
        batch=size.batch,
        steps=size.steps,
        seed=seed,
        lr=4e-3,
        betas=(0.9, 0.98),
        groups={"log_weights|log_scale": 2.5},
        warmup=0.1,
        clip=0.0,
        eval_every=max(1, size.steps // 4),
        metric="mrr@10",
        patience=2,
        tensorboard=False,
    )
    method = InBatch(encoder, Config(temperature=0.05, learnable=True))
    loader = Loader(rows, NoDuplicates(rows.keys(), size.batch, seed=seed))
    extra = {"method": "in-batch", "why": SCHEMA.why, "encoder": encoder.config.__dict__}

    def watch(trained: InBatch) -> dict[str, float]:
        assert isinstance(trained.encoder, StaticText)
        return {"mrr@10": dev.mrr(top_k(*dev.embedded(trained.encoder), 10)[1])}

    Trainer(method, loader, config, folder=folder, evaluate=watch, overwrite=True, extra=extra).fit()
    return method


def best_share(encoder: StaticText, dev: Held) -> Share:
    """The weight of the dense score in the hybrid, learned on dev."""
    dense, lexical, average = dev.lists(encoder)
    return learn_share(
        dense,
        lexical,
        dev.judgements,
        average=average,
        metric="mrr@10",
        source="learned by demo on {n} functions of packages that were held out",
    )


def intervals(figures: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, list[float]]]:
    out = {}
    for name, found in figures.items():
        held = {m: interval(mean(x)) for m, x in found.items()}
        out[name] = {m: [i.low, i.high] for m, i in held.items()}
    return out


def differences(figures: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, Any]]:
    """MRR@10 of each system above BM25's, on the same queries, with the paired bootstrap's 95 % interval."""
    out: dict[str, dict[str, Any]] = {}
    for name in ("dense", "hybrid"):
        found = difference(mean(figures[name]["mrr@10"]), mean(figures["bm25"]["mrr@10"]))
        out[f"{name} - bm25"] = {"metric": "mrr@10", "value": found.value, "ci95": [found.low, found.high]}
    return out


def build_index(pairs: Sequence[CodePair], encoder: StaticText, folder: Path, share: Share) -> None:
    rows = [
        {"code": p.code, "summary": p.text, "name": p.name, "package": p.package, "file": p.file, "line": p.line}
        for p in pairs
    ]
    Index.build(
        folder / "index",
        rows,
        encoder=encoder,
        text="code",
        tokenizer="code",
        model=folder / "model",
        share=share,
        overwrite=True,
    )


def versions() -> dict[str, str]:
    named = ("torch", "tokenizers", "transformers", "bm25s", "numpy")
    return {
        "counterpoint": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in named},
    }


def show(console: Console, metrics: dict[str, Any], folder: Path, encoder: StaticText) -> None:
    """The table, the differences, and three searches."""
    table = Table("system", *METRICS, title=f"{metrics['queries']:,} queries, {metrics['documents']:,} functions")
    for name, found in metrics["systems"].items():
        table.add_row(name, *(f"{found[m]:.3f}" for m in METRICS))
    console.print(table)
    for name, found in metrics["differences"].items():
        low, high = found["ci95"]
        console.print(f"{name}, MRR@10: {found['value']:+.3f}  (95 % interval {low:+.3f} to {high:+.3f})")
    index = Index.open(folder / "index")
    for query, hits in zip(SEARCHES, index.search(SEARCHES, encoder=encoder, k=3)):
        console.print(f"\n[bold]{query}[/bold]")
        for hit in hits:
            row = hit.row
            console.print(f"  {hit.score:.3f}  {row['file']}:{row['line']}  {row['name']}", soft_wrap=True)


counterpoint.call_as_verb(__name__)
