"""Cross-encoders: both texts of a pair are read together, which is exact and slow; and what scores pairs at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from counterpoint.data.files.read import read
from counterpoint.encoders import pretrained
from counterpoint.encoders.base import evaluating
from counterpoint.encoders.border import reading
from counterpoint.encoders.bulk import buckets
from counterpoint.encoders.text import TextTransformerConfig, architecture
from counterpoint.encoders.tokenizer import subwords, train_tokenizer
from counterpoint.errors import ConfigError, DataError, ItemError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

Pair = tuple[str, str]


def read_pairs(path: Path | str) -> list[Pair]:
    """The pairs of a file: its columns a and b, else its first two columns of text; rows without one are left out.

    path: of the file.
    """
    table = read([path], streaming=False)
    names = [n for n, f in table.features.items() if getattr(f, "dtype", "") in ("string", "large_string")]
    names = ["a", "b"] if {"a", "b"} <= set(names) else names[:2]
    if len(names) < 2:
        raise DataError(f"{path} has no two columns of text: it holds {', '.join(table.features)}.")
    found = [(a, b) for a, b in zip(table[names[0]], table[names[1]]) if a and b]
    if not found:
        raise DataError(f"{path} holds no pair of texts in {names[0]!r} and {names[1]!r}.")
    return found


class Scorer(Protocol):
    """Whatever says how well the two texts of a pair go together."""

    def score(self, pairs: Sequence[Pair]) -> np.ndarray:
        """``(N,)`` scores, or ``(N, C)`` logits of C classes, float32; rows of NaN where it has none.

        pairs: N of texts.
        """
        ...


def is_pair(given: Any) -> TypeGuard[Pair]:
    """Whether something is one pair of texts, and not a sequence of pairs.

    given: whatever was given.

    >>> is_pair(("a cat", "a dog")), is_pair(["a", "b", "c"])
    (True, False)
    """
    return isinstance(given, tuple | list) and len(given) == 2 and all(isinstance(text, str) for text in given)


def check_pairs(pairs: Sequence[Any]) -> None:
    """Refuse what is no pair of texts: two letters of a text would be one.

    pairs: whatever was given. Raises `ItemError`, which names the place.
    """
    for place, pair in enumerate(pairs):
        if not is_pair(pair):
            given = type(pair).__name__
            said = f"Pair {{place}} of {{of}} is no pair of texts but a {given}: give (text, text)."
            raise ItemError(said, place, len(pairs))


@dataclass(frozen=True, kw_only=True)
class CrossEncoderConfig:
    """Of a fresh one. outputs: logits per pair. vocabulary: most subwords. max_length: tokens of both texts together;
    the longer one is cut first.

    layers, width, heads: of the transformer. dropout: in its layers.
    """

    outputs: int = 1
    layers: int = 2
    width: int = 128
    heads: int = 4
    max_length: int = 128
    vocabulary: int = 10_000
    dropout: float = 0.1


class CrossEncoder(nn.Module):
    """A transformer over ``[CLS] a [SEP] b [SEP]`` with a linear head: logits ``(N, C)`` of pairs of texts.

    Any text classifier of `transformers` can be one: the rerankers and pair classifiers that sentence-transformers
    publishes as CrossEncoder, or one of your own.

    model: of transformers, for classification. tokenizer: of its vocabulary. max_length: tokens of both texts together
    (None: all the positions it has).

    >>> config = CrossEncoderConfig(layers=1, width=16, heads=2, vocabulary=80, max_length=16)
    >>> model = CrossEncoder.from_texts(["a cat sat on a mat", "a dog ran"] * 10, config)
    >>> model.score([("a cat", "a dog"), ("a cat", "a mat")]).shape
    (2,)
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, *, max_length: int | None = None
    ) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self.max_length = max_length or pretrained.longest(model, tokenizer)
        self.outputs = int(model.config.num_labels)

    @classmethod
    def from_pretrained(cls, source: str | Path, *, max_length: int | None = None) -> Self:
        """The classifier of a folder or of a hub id; safetensors only, and no code of its own is run.

        source: its path or id. max_length: tokens of both texts together (None: all the positions it has).
        """
        folder = pretrained.locate(source)
        with reading(folder):
            model = pretrained.model(folder, kind="AutoModelForSequenceClassification")
            return cls(model, pretrained.tokenizer(folder), max_length=max_length).eval()

    @classmethod
    def from_texts(cls, texts: Iterable[str], config: CrossEncoderConfig | None = None) -> Self:
        """A fresh one, its vocabulary learned from texts.

        config: of the model (None: the usual one).
        """
        from transformers import BertForSequenceClassification

        c = config or CrossEncoderConfig()
        if c.width % c.heads or c.outputs < 1:
            raise ConfigError(f"width={c.width}, heads={c.heads}, outputs={c.outputs}: heads divide the width.")
        tokenizer = train_tokenizer(texts, **subwords(c))
        shape = TextTransformerConfig(
            layers=c.layers, width=c.width, heads=c.heads, max_length=c.max_length, dropout=c.dropout
        )
        settings = architecture(shape, tokenizer)
        settings.num_labels = c.outputs
        return cls(BertForSequenceClassification(settings), tokenizer, max_length=c.max_length)

    def collate(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        """``input_ids``, ``attention_mask`` and, where the model tells the texts apart by it, ``token_type_ids``."""
        a, b = [p[0] for p in pairs], [p[1] for p in pairs]
        found = self.tokenizer(
            a, b, truncation="longest_first", max_length=self.max_length, padding=True, return_tensors="pt",
            return_token_type_ids=getattr(self.model.config, "type_vocab_size", 1) > 1,
        )  # fmt: skip
        return dict(found)

    def forward(self, data: dict[str, Tensor]) -> Tensor:
        """Logits ``(N, C)`` of tokenised pairs, ``data`` being what the tokenizer gives: ``input_ids``,
        ``attention_mask`` ... ``(N, T)``."""
        logits: Tensor = self.model(**data).logits
        return logits

    def score(self, pairs: Pair | Sequence[Pair], *, budget: int = 8_192) -> np.ndarray:
        """Logits in eval mode, ``(N,)`` where a pair has one, else ``(N, C)``; of one pair alone, ``()`` or ``(C,)``.

        budget: padded tokens per pass. Raises `DataError` for what is no pair of texts, naming its place.
        """
        if is_pair(pairs):
            return self.score([pairs], budget=budget)[0]  # type: ignore[no-any-return]
        check_pairs(pairs)
        out = np.empty((len(pairs), self.outputs), dtype=np.float32)
        device = next(self.parameters()).device
        lengths = np.array([len(a) + len(b) for a, b in pairs], dtype=np.int64) // 4 + 3  # tokens, about
        with evaluating(self):
            for index in buckets(np.minimum(lengths, self.max_length), budget):
                data = self.collate([pairs[i] for i in index])
                out[index] = self({k: v.to(device) for k, v in data.items()}).float().cpu().numpy()
        return out[:, 0] if self.outputs == 1 else out

    def fit(
        self,
        pairs: Sequence[Pair],
        targets: np.ndarray,
        *,
        task: Literal["binary", "classes", "regression"] = "binary",
        epochs: float = 3,
        batch: int = 32,
        lr: float = 2e-5,
        seed: int = 0,
    ) -> Self:
        """Train on judged pairs: targets ``(N,)`` of 0 and 1, of class numbers, or of scores. Linear decay after a
        warm-up of a tenth.

        task: what the targets are. epochs, batch, lr: of the training. seed: of the order and of dropout.
        """
        if len(pairs) != len(targets) or not len(pairs):
            raise DataError(f"{len(pairs)} pairs and {len(targets)} targets were given; each pair needs its own.")
        if (task == "classes") != (self.outputs > 1):
            raise ConfigError(f"A cross-encoder of {self.outputs} outputs cannot learn task={task!r}.")
        y = torch.as_tensor(np.asarray(targets)).to(torch.long if task == "classes" else torch.float32)
        steps = max(1, round(epochs * len(pairs) / batch))
        warm = max(1, steps // 10)
        optimizer = torch.optim.AdamW(self.parameters(), lr=lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda s: min((s + 1) / warm, (steps - s) / max(1, steps - warm))
        )
        device, rng = next(self.parameters()).device, np.random.default_rng(seed)
        order = np.concatenate([rng.permutation(len(pairs)) for _ in range(-(-steps * batch // len(pairs)))])
        loss = {
            "binary": nn.functional.binary_cross_entropy_with_logits,
            "classes": nn.functional.cross_entropy,
            "regression": nn.functional.mse_loss,
        }[task]
        self.train()
        for step in range(steps):
            index = order[step * batch : (step + 1) * batch]
            logits = self({k: v.to(device) for k, v in self.collate([pairs[i] for i in index]).items()})
            optimizer.zero_grad()
            loss(logits if task == "classes" else logits[:, 0], y[index].to(device)).backward()
            nn.utils.clip_grad_norm_(self.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        return self.eval()

    def save(self, folder: Path | str) -> None:
        """A folder that `from_pretrained` reads, as do transformers and sentence-transformers' CrossEncoder."""
        self.tokenizer.model_max_length = self.max_length
        with pretrained.quiet():
            self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
