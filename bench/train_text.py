"""Rows and real tokens per second of training, beside sentence-transformers' own trainer.

    python bench/train_text.py                       # about six minutes on two idle cores
    python bench/train_text.py --steps 2 --repeats 1 --batch 32

Both sides train the same model from the same folder (the size of MiniLM: 6 layers, 384 wide, 12 heads, a vocabulary of
up to 30,000, dropout 0.1) on the same batches in the same order, with in-batch negatives, AdamW, clipping at 1. Theirs
is `SentenceTransformerTrainer` with `MultipleNegativesRankingLoss`; ours is what `counterpoint fit` runs. Pairs:

- code: first paragraph of a docstring, body of the function, from the standard library: short against long;
- captions: two captions of one photo, all short (where COUNTERPOINT_DATA names the folder that holds them).

Two comparisons each:

- equal precision: float32 on both sides, each with its defaults;
- each at its best: ours in bfloat16; theirs at the fastest of float32 and bfloat16, attention `sdpa` and `eager`,
  batches made in the loop and in a worker, tried here first.

Before anything is timed, both train a few steps in float32 without dropout, and every loss must agree to 1e-4: speed is
not bought by learning something else.

Sides take turns, the first step of each run does not count, and the medians of the runs are compared. Seconds on the
processor stand beside those on the clock: on a machine that others use too, they are what to look at (and there
--threads 1, as threads that wait for each other lose most).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import statistics
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

# For both sides, and before torch is imported: a thread that waits sleeps soon. With GNU's default, threads that share
# a core with other work spin for its whole time slice at each of thousands of barriers, up to ten times slower.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

import torch
from datasets import Dataset, disable_progress_bars
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch.utils.data import BatchSampler, SequentialSampler
from transformers import PrinterCallback, TrainerCallback
from transformers.utils import logging as hf_logging

from _table import Result, finish
from counterpoint.data.schema import Row
from counterpoint.data.sets import registry
from counterpoint.data.sets.code import harvest
from counterpoint.encoders import folder
from counterpoint.encoders.text import TextTransformer, TextTransformerConfig
from counterpoint.methods.text.in_batch import Config, InBatch
from counterpoint.train.config import TrainConfig
from counterpoint.train.loop import Trainer

PEER = "sentence-transformers"
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Task:
    """What both sides do. model: the folder both load. pairs: ``steps`` batches of ``batch``, in order."""

    model: Path
    pairs: Pairs
    batch: int
    max_length: int
    dropout: bool = True

    @property
    def steps(self) -> int:
        return len(self.pairs) // self.batch

    def batches(self) -> Iterator[list[Row]]:
        rows: list[Row] = [{"row": i, "anchor": a, "positive": p} for i, (a, p) in enumerate(self.pairs)]
        yield from (rows[i : i + self.batch] for i in range(0, len(rows), self.batch))


@dataclass
class Run:
    """Times at the end of each step, on the clock and on the processor, and the loss of each step."""

    times: list[tuple[float, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def tick(self) -> None:
        self.times.append((time.perf_counter(), time.process_time()))

    @property
    def seconds(self) -> tuple[float, float]:
        """Of all steps but the first."""
        (start, busy), (end, done) = self.times[0], self.times[-1]
        return end - start, done - busy


def still(module: torch.nn.Module) -> None:
    """Switch dropout off."""
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0


# --- ours ------------------------------------------------------------------------------------------------------------


class Timed(InBatch):
    def __init__(self, encoder: Any, run: Run) -> None:
        super().__init__(encoder, Config(both=False))  # their loss has one direction
        self.run = run

    def losses(self, batch: Any) -> dict[str, torch.Tensor]:
        found = super().losses(batch)
        self.run.losses.append(found["rank"].item())
        return found

    def after_step(self, step: int) -> None:
        self.run.tick()


class Fixed:
    """A loader of these batches."""

    steps_per_epoch = None

    def __init__(self, task: Task) -> None:
        self.task = task

    def __iter__(self) -> Iterator[list[Row]]:
        return self.task.batches()

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None:
        raise NotImplementedError("A benchmark is never resumed.")


def ours(task: Task, *, precision: str = "float32") -> Run:
    encoder = folder.load(task.model)
    assert isinstance(encoder, TextTransformer)
    encoder.max_length = task.max_length
    if not task.dropout:
        still(encoder)
    run = Run()
    settings = TrainConfig(
        batch=task.batch,
        steps=task.steps,
        lr=5e-5,
        warmup=0,
        schedule="constant",
        weight_decay=0.0,
        clip=1.0,
        precision=precision,  # type: ignore[arg-type]
        device="cpu",
        progress=False,
    )
    Trainer(Timed(encoder, run), Fixed(task), settings).fit()
    return run


# --- theirs ----------------------------------------------------------------------------------------------------------


class Heard(MultipleNegativesRankingLoss):
    """Their loss, its values noted."""

    def __init__(self, model: SentenceTransformer, run: Run) -> None:
        super().__init__(model)
        self.run = run

    def forward(self, *args: Any, **settings: Any) -> torch.Tensor:
        loss: torch.Tensor = super().forward(*args, **settings)
        self.run.losses.append(loss.item())
        return loss


class Ticker(TrainerCallback):
    def __init__(self, run: Run) -> None:
        self.run = run

    def on_step_end(self, *args: Any, **settings: Any) -> None:
        self.run.tick()


def in_order(dataset: Any, batch_size: int, drop_last: bool, **_: Any) -> BatchSampler:
    return BatchSampler(SequentialSampler(dataset), batch_size, drop_last)


def theirs(task: Task, *, precision: str = "float32", attention: str = "sdpa", workers: int = 0) -> Run:
    model = SentenceTransformer(
        str(task.model), device="cpu", model_kwargs={"attn_implementation": attention}, local_files_only=True
    )
    model.max_seq_length = task.max_length
    if not task.dropout:
        still(model)
    run = Run()
    kinds = set()
    linear = next(m for m in model.modules() if isinstance(m, torch.nn.Linear))
    linear.register_forward_hook(lambda module, inputs, output: kinds.add(output.dtype))
    with tempfile.TemporaryDirectory() as aside:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=aside,
            max_steps=task.steps,
            per_device_train_batch_size=task.batch,
            batch_sampler=in_order,
            learning_rate=5e-5,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=1.0,
            bf16=precision == "bfloat16",
            use_cpu=True,
            dataloader_num_workers=workers,
            dataloader_persistent_workers=workers > 0,
            logging_steps=10,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        data = Dataset.from_dict({"anchor": [a for a, _ in task.pairs], "positive": [p for _, p in task.pairs]})
        trainer = SentenceTransformerTrainer(
            model, arguments, train_dataset=data, loss=Heard(model, run), callbacks=[Ticker(run)]
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    assert kinds == {getattr(torch, precision)}, f"{precision} was asked for, {kinds} was in use."
    return run


# --- the comparison --------------------------------------------------------------------------------------------------


def same_losses(task: Task) -> float:
    """The largest difference between the losses of both sides; raises where they do not learn the same."""
    task = replace(task, dropout=False, max_length=64, batch=16, pairs=task.pairs[: 16 * 4])
    a, b = ours(task).losses, theirs(task).losses
    worst = max(abs(x - y) for x, y in zip(a, b, strict=True))
    assert len(a) == task.steps
    assert worst < 1e-4, f"The losses differ: {a} and {b}."
    print(f"the same losses without dropout: {', '.join(f'{x:.5f}' for x in a)} (largest difference {worst:.1e})")
    return worst


def fastest(task: Task) -> dict[str, Any]:
    """Their fastest settings: one changed after the other, kept where two steps get faster."""
    task = replace(task, pairs=task.pairs[: 3 * task.batch])
    tried = {}
    best: dict[str, Any] = {}
    changes: tuple[dict[str, Any], ...] = ({}, {"precision": "bfloat16"}, {"attention": "eager"}, {"workers": 1})
    for change in changes:
        settings = {**best, **change}
        tried[json.dumps(settings)] = theirs(task, **settings).seconds[0]
        if tried[json.dumps(settings)] <= min(tried.values()):
            best = settings
    print("theirs, seconds of two steps: " + ", ".join(f"{name} {s:.2f}" for name, s in tried.items()))
    return best


def compare(case: str, task: Task, tokens: int, best: dict[str, Any], repeats: int) -> list[Result]:
    """tokens: real ones of all steps but the first."""
    rows = len(task.pairs) - task.batch
    sides = [("equal precision: float32", {}, {}), ("each at its best", {"precision": "bfloat16"}, best)]
    seconds: dict[str, list[list[tuple[float, float]]]] = {name: [[], []] for name, _, _ in sides}
    for _ in range(repeats):
        for name, mine, yours in sides:
            seconds[name][0].append(ours(task, **mine).seconds)
            seconds[name][1].append(theirs(task, **yours).seconds)
    out = []
    for name, _, yours in sides:
        (a, busy_a), (b, busy_b) = ([statistics.median(x) for x in zip(*side)] for side in seconds[name])
        peer: dict[str, Any] = {"peer_version": version(PEER)}
        about = ", ".join(f"{k} {v}" for k, v in yours.items())
        peer["peer_name"] = PEER + (f" ({about})" if about else "")
        for metric, unit, count in (("speed", "rows/s", rows), ("speed", "real tokens/s", tokens)):
            speeds: dict[str, Any] = {"ours": count / a, "peer": count / b, "higher_is_better": True}
            out.append(Result(case=f"{case}, {name}", metric=metric, unit=unit, **speeds, **peer))
        if not yours.get("workers"):  # a worker's seconds are not this process's
            used: dict[str, Any] = {"ours": busy_a / rows * 1e3, "peer": busy_b / rows * 1e3}
            out.append(Result(case=f"{case}, {name}", metric="processor", unit="ms/row", **used, **peer))
    return out


def data() -> dict[str, Pairs]:
    code = harvest([sysconfig.get_paths()["stdlib"]], workers=1)
    found: dict[str, Pairs] = {"code": [(p.text, p.code) for p in code if p.text]}
    if os.environ.get("COUNTERPOINT_DATA"):
        rows = registry.load("captions", "train")
        found["captions"] = list(zip(rows["anchor"], rows["positive"]))
    else:
        print("COUNTERPOINT_DATA is not set: the case of captions is left out.")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64, help="pairs per step")
    parser.add_argument("--steps", type=int, default=2, help="steps of a run that count; one more comes first")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--max-length", type=int, default=128, help="tokens of a text that are read")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as there are cores")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # else every forked worker warns
    warnings.simplefilter("ignore")
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    logging.getLogger(PEER.replace("-", "_")).setLevel(logging.ERROR)
    disable_progress_bars()

    sets = data()
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as aside:
        torch.manual_seed(0)
        texts = [text for pairs in sets.values() for pair in pairs for text in pair]
        encoder = TextTransformer.from_texts(texts, TextTransformerConfig(max_length=options.max_length))
        model = Path(aside) / "model"
        folder.save(encoder, model)
        print(f"vocabulary {len(encoder.tokenizer):,}, weights {sum(p.numel() for p in encoder.parameters()):,}")
        for i, (case, pairs) in enumerate(sets.items()):
            count = options.batch * (options.steps + 1)
            if len(pairs) < count:
                raise SystemExit(
                    f"{case}: {len(pairs):,} pairs are there, {count:,} are needed. Lower --batch or --steps."
                )
            chosen = random.Random(0).sample(pairs, count)
            task = Task(model, chosen, options.batch, options.max_length)
            if i == 0:
                same_losses(task)
            counted = chosen[options.batch :]
            lengths = [encoder.lengths(column) for column in zip(*counted)]
            longest = [x.reshape(-1, options.batch).max(1).sum() * options.batch for x in lengths]
            tokens = int(sum(x.sum() for x in lengths))
            print(f"{case}: {tokens / len(counted):.0f} real tokens per pair, {sum(longest) / len(counted):.0f} padded")
            results += compare(case, task, tokens, fastest(task), options.repeats)
    finish("train_text", results)
    print(f"load average: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
