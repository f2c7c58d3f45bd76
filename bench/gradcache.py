"""Gradient caching: memory and time of a step, the whole batch at once beside passes cut by rows and by tokens.

    python bench/gradcache.py                     # two minutes on an idle core
    python bench/gradcache.py --batch 64 --repeats 1 --threads 1

A step is two passes with dropout over the same texts, a contrast of every row with every row, and its gradient. Two
encoders of one shape: the library's own, which computes no padding whatever it is given, and the same transformer as it
is, which multiplies the padding of its batch too, as modules of one's own mostly do. Texts: abstracts of Cranfield and
English sentences, mixed, from the folder in COUNTERPOINT_DATA.

- whole: no caching;
- rows: gradient caching in passes of as many rows each, in the order of the batch, padded as the batch is;
- tokens: the same number of passes, of about equally many tokens: `embed(encoder, data, micro_batch)`;
- budget: the passes that a memory budget gives, of what cutting by rows took: `embed(encoder, data, Budget(...))`.

Memory: bytes of all tensors alive at once beside the weights, counted operation by operation (so no noise). Time:
seconds on the processor, median of the runs, sides in turns. Before that, without dropout, the losses of all sides must
agree to 1e-4.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import BertConfig, BertModel

from _table import Result, finish
from counterpoint.data.batch import Data, size, take
from counterpoint.data.sets import registry
from counterpoint.encoders.text import TextTransformer, TextTransformerConfig
from counterpoint.objectives.contrast import contrast
from counterpoint.train.budget import Budget, Tally
from counterpoint.train.gradcache import embed

Embed = Callable[[Data], Tensor]
MiB = 1 << 20


def texts(count: int) -> list[str]:
    documents = registry.load("cranfield").corpus
    sentences = registry.load("english-sentences")
    rng = random.Random(0)
    half = rng.sample([str(text) for text in documents.values() if text], count // 2)
    half += [sentences[i]["text"] for i in rng.sample(range(len(sentences)), count - len(half))]
    rng.shuffle(half)
    return half


def encoder(sample: list[str], kind: str, dropout: float) -> tuple[nn.Module, Data]:
    """An encoder, and the texts as it takes them."""
    torch.manual_seed(0)
    config = TextTransformerConfig(layers=3, width=128, heads=4, max_length=256, vocabulary=8000, dropout=dropout)
    net = TextTransformer.from_texts(sample, config)
    data = net.collate(sample)
    return (net if kind == "text encoder" else Padded(net.transformer.config)).train(), data


class Padded(nn.Module):
    """A BERT over a padded batch, and the mean of its tokens."""

    max_length = 256

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.model = BertModel(BertConfig(**config.to_dict()), add_pooling_layer=False)

    def forward(self, data: dict[str, Tensor]) -> Tensor:
        mask = data["attention_mask"].unsqueeze(-1)
        hidden = self.model(input_ids=data["input_ids"], attention_mask=data["attention_mask"]).last_hidden_state
        return (hidden * mask).sum(1) / mask.sum(1)


def by_rows(net: nn.Module, rows: int) -> Embed:
    def run(data: Data) -> Tensor:
        parts = [take(data, slice(i, i + rows)) for i in range(0, size(data), rows)]
        return torch.cat([checkpoint(net, part, use_reentrant=False) for part in parts])

    return run


def step(net: nn.Module, data: Data, run: Embed) -> float:
    a, b = (F.normalize(run(data), dim=-1) for _ in range(2))
    loss = contrast(a, b, scale=20.0, both=True)
    loss.backward()
    net.zero_grad()
    return loss.item()


def measure(kind: str, sample: list[str], rows: int, repeats: int) -> list[Result]:
    net, data = encoder(sample, kind, 0.1)

    def peak(run: Embed) -> int:
        with Tally() as tally:
            step(net, data, run)
        return tally.peak

    sides: dict[str, Embed] = {"whole": net, "rows": by_rows(net, rows), "tokens": lambda data: embed(net, data, rows)}
    step(net, data, net)
    memory = {name: peak(run) for name, run in sides.items()}
    weights = sum(p.nbytes for p in net.parameters())
    budget = Budget(memory["rows"] + weights, net)
    budget.passes(net, net, data)
    sides["budget"] = lambda data: embed(net, data, budget)
    memory["budget"] = peak(sides["budget"])

    plain, _ = encoder(sample, kind, 0.0)
    checked = [step(plain, data, run) for run in (plain, by_rows(plain, rows), lambda d: embed(plain, d, rows))]
    assert max(checked) - min(checked) < 1e-4, checked

    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            begun = time.process_time()
            step(net, data, run)
            seconds[name].append(time.process_time() - begun)
    took = {name: statistics.median(times) for name, times in seconds.items()}
    out = []
    for ours, peer in (("rows", "whole"), ("tokens", "whole"), ("tokens", "rows"), ("budget", "rows")):
        case = f"{kind}, {len(sample)} texts, cut by {ours}"
        out.append(
            Result(
                case=case,
                metric="peak memory",
                unit="MiB",
                ours=memory[ours] / MiB,
                peer=memory[peer] / MiB,
                peer_name=peer,
            )
        )
        out.append(Result(case=case, metric="time", unit="CPU s", ours=took[ours], peer=took[peer], peer_name=peer))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64, help="texts per step")
    parser.add_argument("--micro", type=int, default=8, help="texts per pass")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as there are cores")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    sample = texts(given.batch)
    results = [
        r for kind in ("text encoder", "padded encoder") for r in measure(kind, sample, given.micro, given.repeats)
    ]
    finish("gradcache", results)


if __name__ == "__main__":
    main()
