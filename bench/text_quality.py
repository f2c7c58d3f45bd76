"""Sentence encoders from scratch after equal training time: similarity, and search beside BM25.

    python bench/text_quality.py                  # about fifteen minutes on two idle cores
    python bench/text_quality.py --seconds 5

All systems see the same 106,512 English sentences and nothing else, share one vocabulary learned from them, and train
for as many seconds of the clock. Which of a side's candidates is measured is decided by Spearman on STS-B dev (ours are
four, theirs four); what is measured decides nothing.

- ours: a static encoder whose subwords weigh by their inverse document frequency, saturate when repeated and begin
  alike where they are spelled alike, as it is (untrained), or trained by dropout of tokens (`simcse`) or by crops
  (`contriever`, negatives in the batch); and the untrained one that knows no spelling;
- theirs, SimCSE-style: a transformer (2 layers, 256 wide), each sentence its own positive under dropout; two rates;
- theirs, static: `StaticEmbedding`, both views a sentence without 30 % of its words; two rates.

BM25 stands beside the encoders on the judged sets: it is built from the documents themselves. A hybrid is what
`counterpoint search --mode hybrid --alpha SHARE` gives. The share of our encoder in it is the one that is best on the
other two judged sets, or (`own share`) on the other half of the set's queries, for whoever has some that are judged.
"""

from __future__ import annotations

import argparse
import copy
import logging
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as in train_text.py

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from transformers import PrinterCallback
from transformers.utils import logging as hf_logging

from _table import Result, finish
from counterpoint.data.loader import Loader
from counterpoint.data.rows import Rows
from counterpoint.data.sampler import Shuffled
from counterpoint.data.schema import Schema
from counterpoint.data.sets.registry import load
from counterpoint.encoders import folder
from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.encoders.text import TextTransformer, TextTransformerConfig
from counterpoint.evaluate.hybrid_share import lists
from counterpoint.evaluate.intervals import Sample, difference, mean
from counterpoint.evaluate.retrieval import measure
from counterpoint.evaluate.similarity import samples, spearman
from counterpoint.evaluate.tasks import Ranking
from counterpoint.methods.base import find
from counterpoint.search.bm25 import BM25
from counterpoint.search.exact import top_k
from counterpoint.search.hybrid import weighted
from counterpoint.train.loop import Trainer

PEER = "sentence-transformers"
SIMILARITY = {"stsb-en": "test", "sts12-16": "test", "sick": "test"}
JUDGED = ("cranfield", "cisi", "npl")
OURS = ("ours", "hybrid", "hybrid, own share")
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
SEED, BATCH, TRIAL = 0, 512, 12
Encode = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Candidate:
    """A system that was trained. dev: Spearman on STS-B dev. seconds: of training, on the clock."""

    name: str
    encode: Encode
    dev: float
    seconds: float


def cosines(encode: Encode, rows: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sides = (encode(rows[c]) for c in ("sentence1", "sentence2"))
    column = "score" if "score" in rows.column_names else "relatedness"
    return *sides, np.asarray(rows[column], dtype=np.float64)


def candidate(name: str, encode: Encode, seconds: float) -> Candidate:
    a, b, scores = cosines(encode, load("stsb-en", "dev"))
    found = Candidate(name, encode, spearman((a * b).sum(1), scores), seconds)
    print(f"{name}: {found.dev:.4f} on STS-B dev, {seconds:.0f} s", flush=True)
    return found


def steps_for(seconds: float, run: Callable[[int], None]) -> int:
    """How many steps fit the time, by a trial."""
    run(2)
    start = time.perf_counter()
    run(TRIAL)
    return max(TRIAL, round(seconds / (time.perf_counter() - start) * TRIAL))


# --- ours ------------------------------------------------------------------------------------------------------------


def ours(sentences: Rows, seconds: float) -> Iterator[Candidate]:
    texts = list(sentences.texts())
    plain = StaticTextConfig(dim=1024, aggregate="saturating", token_dropout=0.3)

    def begun(config: StaticTextConfig) -> StaticText:
        torch.manual_seed(SEED)
        return StaticText.from_texts(texts, config)

    untrained = begun(replace(plain, spelling=0.8))
    yield candidate("static, untrained, no spelling", begun(plain).eval().encode, 0.0)
    yield candidate("static, untrained", untrained.eval().encode, 0.0)
    for method, settings in (("simcse", {}), ("contriever", {"negatives": "in-batch", "crop": (0.3, 0.9)})):
        recipe = find(method).recipe("small")

        def run(steps: int, method: str = method, recipe: Any = recipe, settings: Any = settings) -> StaticText:
            encoder = copy.deepcopy(untrained)
            learner = find(method)(encoder, replace(recipe.config, **settings))
            train = replace(recipe.train, batch=BATCH, steps=steps, lr=1e-3, seed=SEED, progress=False)
            Trainer(learner, Loader(sentences, Shuffled(len(sentences), BATCH, seed=SEED)), train).fit()
            return encoder

        steps = steps_for(seconds, run)
        begin = time.perf_counter()
        encoder = run(steps)
        yield candidate(f"static, {method}", encoder.encode, time.perf_counter() - begin)


# --- theirs ----------------------------------------------------------------------------------------------------------


def fewer_words(text: str, rng: random.Random) -> str:
    words = text.split()
    return " ".join([w for w in words if rng.random() >= 0.3] or words[:1])


def theirs(texts: Sequence[str], tokenizer: Any, seconds: float, place: str) -> Iterator[Candidate]:
    rng = random.Random(SEED)
    twice = Dataset.from_dict({"anchor": list(texts), "positive": list(texts)})
    words = Dataset.from_dict(
        {side: [fewer_words(t, rng) for t in texts] for side in ("anchor", "positive")}
    )  # once for all epochs, as its trainer takes columns of texts

    def transformer() -> SentenceTransformer:
        torch.manual_seed(SEED)
        shape = TextTransformerConfig(layers=2, width=256, heads=4, max_length=64)
        folder.save(TextTransformer(shape, tokenizer), f"{place}/start")
        return SentenceTransformer(f"{place}/start", device="cpu")

    def static() -> SentenceTransformer:
        torch.manual_seed(SEED)
        embedding = StaticEmbedding(tokenizer.backend_tokenizer, embedding_dim=1024)
        return SentenceTransformer(modules=[embedding], device="cpu")

    for name, make, rows, batch, rates in (
        ("SimCSE", transformer, twice, 64, (3e-4, 3e-5)),
        ("static", static, words, BATCH, (2e-1, 2e-2)),
    ):
        for lr in rates:

            def run(steps: int, make: Any = make, rows: Any = rows, batch: int = batch, lr: float = lr) -> Any:
                model = make()
                arguments = SentenceTransformerTrainingArguments(
                    output_dir=f"{place}/out", max_steps=steps, per_device_train_batch_size=batch, learning_rate=lr,
                    warmup_steps=round(0.1 * steps), report_to="none", disable_tqdm=True, save_strategy="no",
                    use_cpu=True, seed=SEED,
                )  # fmt: skip
                trainer = SentenceTransformerTrainer(
                    model=model, args=arguments, train_dataset=rows, loss=MultipleNegativesRankingLoss(model)
                )
                trainer.remove_callback(PrinterCallback)
                trainer.train()
                return model

            steps = steps_for(seconds, run)
            start = time.perf_counter()
            model = run(steps)
            spent = time.perf_counter() - start

            def encode(items: Sequence[str], model: Any = model) -> np.ndarray:
                return model.encode(list(items), normalize_embeddings=True, show_progress_bar=False, batch_size=64)

            yield candidate(f"{name}, lr {lr:g}", encode, spent)


# --- measuring -------------------------------------------------------------------------------------------------------


def measured(systems: Mapping[str, Encode]) -> dict[str, dict[str, Sample]]:
    """Data set -> system -> its figure on every example."""
    found: dict[str, dict[str, Sample]] = {}
    for name, split in SIMILARITY.items():
        rows = load(name, split)
        found[name] = {s: samples(*cosines(encode, rows))["spearman"] for s, encode in systems.items()}
    mixed: dict[str, np.ndarray] = {}  # nDCG of the hybrids, (shares, queries)
    for name in JUDGED:
        ranking = Ranking.of_retrieval(load(name), exclude_self=False)
        words = BM25(ranking.documents)
        runs = {"BM25": words.search(ranking.queries, 100)}
        vectors = {s: (encode(ranking.queries), encode(ranking.documents)) for s, encode in systems.items()}
        for s, (queries, documents) in vectors.items():
            runs[s] = top_k(queries, documents, 100)
        found[name] = {s: mean(ndcg(r[1], ranking)) for s, r in runs.items()}
        dense, lexical, average = lists(ranking.queries, *vectors["ours"], words)
        hybrids = (weighted(dense, lexical, k=100, alpha=a, average=average) for a in SHARES)
        mixed[name] = np.stack([ndcg(r[1], ranking) for r in hybrids])
    for name, by_share in mixed.items():
        best = int(sum(mixed[other].mean(axis=1) for other in JUDGED if other != name).argmax())
        halves = np.arange(by_share.shape[1]) % 2
        own = [int(by_share[:, halves != half].mean(axis=1).argmax()) for half in (0, 1)]
        print(
            f"{name}: hybrid with {SHARES[best]:g} of ours, own {SHARES[own[0]]:g} and {SHARES[own[1]]:g}", flush=True
        )
        found[name]["hybrid"] = mean(by_share[best])
        found[name]["hybrid, own share"] = mean(by_share[np.take(own, halves), np.arange(len(halves))])
    return found


def ndcg(ids: np.ndarray, ranking: Ranking) -> np.ndarray:
    """Of every query."""
    return measure(ids, ranking.judgements, metrics=("ndcg@10",)).values["ndcg@10"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of training, for every candidate")
    seconds = parser.parse_args().seconds
    for noisy in ("transformers", "sentence_transformers"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    disable_progress_bars()

    schema = Schema(kind="texts", columns={"text": "text"}, modalities={"text": "text"})
    sentences = Rows(load("english-sentences"), schema)
    texts = list(sentences.texts())
    tokenizer = StaticText.from_texts(texts, StaticTextConfig(dim=1)).tokenizer
    best = max(ours(sentences, seconds), key=lambda c: c.dev)
    with tempfile.TemporaryDirectory() as place:
        peers = list(theirs(texts, tokenizer, seconds, place))
        chosen = {k: max((c for c in peers if c.name.startswith(k)), key=lambda c: c.dev) for k in ("SimCSE", "static")}
        systems = {"ours": best.encode} | {c.name: c.encode for c in chosen.values()}
        found = measured(systems)
    results = []
    for name, by_system in found.items():
        metric = "Spearman" if name in SIMILARITY else "nDCG@10"
        for mine in OURS:
            for peer, theirs_ in by_system.items():
                if mine not in by_system or peer in OURS:
                    continue
                apart = difference(by_system[mine], theirs_, draws=1_000, seed=SEED)
                results.append(
                    Result(
                        case=f"{name}, {best.name if mine == 'ours' else mine}",
                        metric=f"{metric} (difference {apart})",
                        unit="",
                        ours=by_system[mine].value,
                        peer=theirs_.value,
                        peer_name=peer if peer == "BM25" else f"{PEER} {peer}",
                        peer_version="" if peer == "BM25" else version(PEER),
                        higher_is_better=True,
                    )
                )
    finish("text_quality", results)


if __name__ == "__main__":
    main()
