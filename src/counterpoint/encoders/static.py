"""Static text encoders: an embedding per subword, a weight per subword, and their sum. Trains in seconds on a CPU."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Data
from counterpoint.encoders import pretrained
from counterpoint.encoders.base import VOCABULARY_FROM, Source, Traced, config_of, seeded, small_rows
from counterpoint.encoders.border import check_tokens, reading
from counterpoint.encoders.layout import Stage, read_weights, refuse_pickles, revive, write_json, write_weights
from counterpoint.encoders.pooling import pool
from counterpoint.encoders.spelling import spelled
from counterpoint.encoders.subwords import TextEncoder
from counterpoint.encoders.tokenizer import reservoir, subwords, train_tokenizer
from counterpoint.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_SET = "sentence_transformers.sparse_encoder.models.SparseStaticEmbedding"
_MEAN = "sentence_transformers.models.StaticEmbedding"
_DENSE = "sentence_transformers.models.Dense"
_PAD = "<|counterpoint padding|>"
"""No text holds it by chance."""


@dataclass(frozen=True, kw_only=True)
class StaticTextConfig:
    """dim: width. vocabulary: most subwords. model, lowercase, identifiers, min_frequency: see `train_tokenizer`.

    max_length: tokens of a text that are read. aggregate: ``mean`` over the tokens; ``set``: each distinct token once
    (long texts do not drown in their frequent words); ``saturating``: a token that stands c times counts
    ``c (1 + k) / (c + k)``, k = ``saturation``, as in BM25. weights: of subwords, ``learned`` or ``uniform`` (all 1, no
    parameter). init: of the learned weights, ``idf`` (inverse document frequency in the texts given, to the power
    ``idf_power``) or ``uniform``. token_dropout: share of tokens left out in training. std: of the initial embeddings,
    times sqrt(dim). spelling: share of the variance of the initial embeddings that subwords spelled alike have in
    common (`spelled`): 0, each begins by itself; 1, nothing but its spelling.
    """

    dim: int = 512
    vocabulary: int = 30_000
    model: Literal["wordpiece", "bpe"] = "wordpiece"
    lowercase: bool = True
    identifiers: bool = False
    min_frequency: int = 2
    max_length: int = 512
    aggregate: Literal["mean", "set", "saturating"] = "mean"
    saturation: float = 1.0
    weights: Literal["learned", "uniform"] = "learned"
    init: Literal["idf", "uniform"] = "idf"
    idf_power: float = 1.0
    token_dropout: float = 0.0
    std: float = 1.0
    spelling: float = 0.0

    def __post_init__(self) -> None:
        if self.aggregate not in ("mean", "set", "saturating"):
            raise ConfigError(f"aggregate={self.aggregate!r}: type mean, set or saturating.")
        if self.saturation < 0:
            raise ConfigError(f"saturation={self.saturation}: 0 counts a token once, larger values repetitions more.")
        if self.weights not in ("learned", "uniform") or self.init not in ("idf", "uniform"):
            raise ConfigError(f"weights={self.weights!r}, init={self.init!r}: type learned or uniform, idf or uniform.")
        if not 0 <= self.token_dropout < 1:
            raise ConfigError(f"token_dropout={self.token_dropout}: give a share in [0, 1).")
        if not 0 <= self.spelling <= 1:
            raise ConfigError(f"spelling={self.spelling}: give a share from 0 to 1.")
        if self.dim < 1 or self.max_length < 1:
            raise ConfigError(f"dim={self.dim}, max_length={self.max_length}: both must be at least 1.")


class StaticText(TextEncoder):
    """``z = 1/n · Σ_t w_t e_t`` over the n tokens (``mean``) or n distinct ones (``set``, ``saturating``) of a text.

    Weights are kept as logarithms, so they stay positive. Special tokens are not used. An empty text gives zeros.

    Sources: Arora et al. 2017 (weighted averages as a sentence embedding); Pagliardini et al. 2018 (sent2vec, learned
    for the purpose), arXiv 1703.02507.

    >>> encoder = StaticText.from_texts(["a cat sat", "a dog ran"] * 10, StaticTextConfig(dim=16))
    >>> z = encoder.encode(["a cat", "a cat", "a dog"])
    >>> z.shape, bool((z[0] == z[1]).all())
    ((3, 16), True)
    """

    kind: ClassVar[str] = "static-text"
    choices: ClassVar[tuple[str, ...]] = ("static",)
    standard: ClassVar[bool] = True
    special: ClassVar[bool] = False
    config: StaticTextConfig

    def __init__(
        self,
        config: StaticTextConfig,
        tokenizer: PreTrainedTokenizerFast,
        *,
        weights: Tensor | None = None,
        prompts: Mapping[str, str] | None = None,
    ) -> None:
        """weights: ``(V,)`` initial weights of the subwords (None: all 1)."""
        super().__init__(tokenizer, max_length=config.max_length, prompts=prompts or {})
        self.config, self.dim = config, config.dim
        size = len(tokenizer)
        self.table = nn.Parameter(torch.randn(size, config.dim) * (config.std / math.sqrt(config.dim)))
        log_weights = torch.zeros(size) if weights is None else weights.float().log()
        self.log_weights = nn.Parameter(log_weights) if config.weights == "learned" else None

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        config: StaticTextConfig | None = None,
        *,
        prompts: Mapping[str, str] | None = None,
        sample: int = 200_000,
    ) -> Self:
        """Vocabulary and inverse document frequencies from at most ``sample`` of the texts; embeddings at random, or in
        part by ``spelling``.

        config: of the encoder (None: the usual one). prompts: role -> text before the item.
        """
        config = config or StaticTextConfig()
        kept = reservoir(texts, sample)
        tokenizer = train_tokenizer(kept, **subwords(config))
        encoder = cls(config, tokenizer, prompts=prompts)
        if config.spelling:
            alike = spelled(tokenizer.convert_ids_to_tokens(list(range(len(encoder.table)))), config.dim)
            with torch.no_grad():
                encoder.table.mul_(math.sqrt(1 - config.spelling)).add_(alike * config.std * math.sqrt(config.spelling))
        if encoder.log_weights is not None and config.init == "idf":
            with torch.no_grad():
                encoder.log_weights.copy_(config.idf_power * encoder.idf(kept).log())
        return encoder

    @classmethod
    def configured(cls, choice: str, recipe: Any = None, *, smoke: bool = False) -> Any:
        config = super().configured(choice, recipe, smoke=smoke)
        return config if isinstance(recipe, StaticTextConfig) else replace(config, token_dropout=0.3)

    @classmethod
    def build(cls, config: Any, rows: Source) -> Self:
        return cls.from_texts(rows.texts(VOCABULARY_FROM), config)

    @classmethod
    def example(cls, seed: int = 0) -> Self:
        with seeded(seed):
            return cls.build(config_of(cls)(dim=16), small_rows(cls.modality))

    @property
    def embedded(self) -> int | None:
        return len(self.table)

    def idf(self, texts: list[str]) -> Tensor:
        """``(V,)`` inverse document frequency ``log((N + 1) / (df + 0.5))``, at least 0.1; df: texts that hold it."""
        df = np.zeros(len(self.table), dtype=np.int64)
        for start in range(0, len(texts), 4096):
            for ids in self.ids(texts[start : start + 4096]):
                df[list(set(ids))] += 1
        return torch.log((len(texts) + 1) / (torch.from_numpy(df).float() + 0.5)).clamp(min=0.1)

    def _reduced(self, row: Sequence[int]) -> Sequence[int]:
        once = row if self.config.aggregate == "mean" else dict.fromkeys(row)
        return [i for i in once if i != self.pad]

    def collate_ids(self, ids: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """As every text encoder's; where repetitions saturate, with ``counts`` ``(N, T)`` of each token.

        ids: tokens of N texts.
        """
        data = super().collate_ids(ids)
        if self.config.aggregate == "saturating":
            counts = np.ones(data["input_ids"].shape, dtype=np.float32)
            for row, tokens in enumerate(ids):
                found = Counter(
                    t for t in self._cut(tokens, self.max_length) if t != self.pad
                )  # in the order of `_reduced`
                counts[row, : len(found)] = list(found.values())
            data["counts"] = torch.from_numpy(counts)
        return data

    def _weights(self, data: Mapping[str, Tensor]) -> Tensor | None:
        """What each token is multiplied with, ``(N, T)``; None: 1."""
        weights = None if self.log_weights is None else self.log_weights.exp()[data["input_ids"]]
        if "counts" not in data:
            return weights
        c, k = data["counts"], self.config.saturation
        times = c * (1 + k) / (c + k)
        return times if weights is None else weights * times

    def forward(self, data: Data) -> Tensor:
        assert not isinstance(data, Tensor)
        ids = data["input_ids"]
        real = ids != self.pad  # not the attention mask: an empty text holds one padding token
        if self.training and self.config.token_dropout:
            kept = real & (torch.rand(ids.shape, device=ids.device) >= self.config.token_dropout)
            real = torch.where(kept.any(1, keepdim=True), kept, real)  # a text never loses all its tokens
        counts = real.sum(1)
        flat = ids[real]
        offsets = F.pad(counts.cumsum(0), (1, 0))
        weights = self._weights(data)
        weights = None if weights is None else weights[real]
        z = F.embedding_bag(flat, self.table, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True)
        return z / counts.clamp(min=1).unsqueeze(1).to(z.dtype)

    def tokens(self, data: Data) -> tuple[Tensor, Tensor]:
        """Weighted embeddings of the tokens; their mean is the embedding.

        data: as `collate` gives it.
        """
        assert not isinstance(data, Tensor)
        ids = data["input_ids"]
        z, weights = F.embedding(ids, self.table), self._weights(data)
        return z if weights is None else z * weights.unsqueeze(-1), ids != self.pad

    def traced(self) -> Traced:
        names = ("input_ids", "counts") if self.config.aggregate == "saturating" else ("input_ids",)

        def forward(*given: Tensor) -> Tensor:
            # By its name: a subclass may give no tokens.
            return pool(*StaticText.tokens(self, dict(zip(names, given))))

        return self._traced(forward, names)

    # --- on disk ---------------------------------------------------------------------------------------------------

    def write(self, folder: Path) -> list[Stage]:
        """``mean``: sentence-transformers' StaticEmbedding, weights multiplied into the table (reading divides them out
        again: the last bit may differ). ``set``: its SparseStaticEmbedding (a vector of weights, one place per distinct
        token) followed by the table as a Dense layer. That is n times ours, so it is offered for unit vectors only.
        ``saturating``: that library has no equivalent.
        """
        # StaticEmbedding has no limit of its own.
        side = "left" if self._left else "right"
        self.tokenizer.backend_tokenizer.enable_truncation(self.max_length, direction=side)
        self.tokenizer.save_pretrained(folder)
        weights = torch.ones(len(self.table)) if self.log_weights is None else self.log_weights.detach().exp().cpu()
        table = self.table.detach().cpu()
        if self.config.aggregate == "mean":
            write_weights(
                folder / "model.safetensors",
                {"embedding.weight": table * weights[:, None], "token_weights": weights},
            )
            return [Stage(type=_MEAN, path="")]
        weights = weights.clone()
        weights[self.pad] = 0.0
        write_weights(folder / "model.safetensors", {"weight": weights})
        write_json(folder / "config.json", {"frozen": False})
        (folder / "Table").mkdir()
        write_weights(folder / "Table/model.safetensors", {"linear.weight": table.T})
        write_json(
            folder / "Table/config.json",
            {
                "in_features": len(table),
                "out_features": self.dim,
                "bias": False,
                "activation_function": "torch.nn.modules.linear.Identity",
            },
        )
        expressible = self.normalize and self.config.aggregate == "set"
        return [Stage(type=_SET, path=""), Stage(type=_DENSE, path="Table")] if expressible else []

    @classmethod
    def read(cls, folder: Path, config: Mapping[str, Any]) -> Self:
        settings: StaticTextConfig = revive(StaticTextConfig, config)
        encoder = cls(settings, pretrained.tokenizer(folder))
        held = read_weights(folder / "model.safetensors")
        if settings.aggregate == "mean":
            weights = held["token_weights"]
            table = held["embedding.weight"] / weights[:, None]
        else:
            weights = held["weight"]
            weights[encoder.pad] = 1.0
            table = read_weights(folder / "Table/model.safetensors")["linear.weight"].T
        return encoder._filled(table, weights)

    @classmethod
    def from_sentence_transformers(cls, folder: Path) -> Self:
        """The encoder of a folder that holds a StaticEmbedding of sentence-transformers, perhaps made by model2vec.

        Its tokenizer gets a token more, which fills the shorter rows of a batch: none of its own, as a text may hold
        each of them.
        """
        refuse_pickles(folder)
        held = read_weights(folder / "model.safetensors")
        table = held.get("embedding.weight", held.get("embeddings"))
        if table is None or table.ndim != 2:
            raise ModelError(f"{folder} is no StaticEmbedding that Counterpoint reads: it holds {', '.join(held)}.")
        weights = None if "embedding.weight" in held else held.get("weights")
        if "embedding.weight" not in held and "mapping" in held:  # token -> row, of vocabularies that share rows
            table = table[held["mapping"].long()]
        table = table.float()
        if weights is not None and not bool((weights > 0).all()):  # kept as logarithms, which these do not have
            table, weights = table * weights.float()[:, None], None
        tokenizer, config = _tokenizer_of(folder)
        if len(tokenizer) - 1 > len(table):
            raise ModelError(f"{folder} has embeddings for {len(table)} of the {len(tokenizer) - 1} tokens it knows.")
        missing = max(0, len(tokenizer) - len(table))
        table = F.pad(table, (0, 0, 0, missing))
        learned = "uniform" if weights is None else "learned"
        settings = StaticTextConfig(dim=table.shape[1], vocabulary=len(table), weights=learned, **config)
        return cls(settings, tokenizer)._filled(
            table, None if weights is None else F.pad(weights.float(), (0, missing), value=1.0)
        )

    def _filled(self, table: Tensor, weights: Tensor | None) -> Self:
        if table.ndim != 2 or table.shape[1] != self.dim or len(table) < len(self.tokenizer):
            raise ModelError(
                f"The table of shape {tuple(table.shape)} does not fit {len(self.tokenizer)} tokens {self.dim} wide."
            )
        if weights is not None and weights.shape != table.shape[:1]:
            raise ModelError(f"{tuple(weights.shape)} weights of tokens do not fit a table of {len(table)} tokens.")
        self.table = nn.Parameter(table.contiguous())
        if self.log_weights is not None and weights is not None:
            self.log_weights = nn.Parameter(weights.log())
        return self


def _tokenizer_of(folder: Path) -> tuple[PreTrainedTokenizerFast, dict[str, Any]]:
    """The tokenizer of a StaticEmbedding, as its file alone describes it, with a token for padding; and the longest
    text that it reads."""
    from transformers import PreTrainedTokenizerFast

    path = folder / "tokenizer.json"
    check_tokens(path)
    with reading(path, "a tokenizer"):
        plain = Tokenizer.from_file(str(path))
        cut = plain.truncation or {}
        plain.no_truncation()
        found = PreTrainedTokenizerFast(
            tokenizer_object=plain, truncation_side=str(cut.get("direction", "right")).lower()
        )
        found.add_special_tokens({"pad_token": _PAD})
    return found, {"max_length": int(cut.get("max_length", pretrained.UNLIMITED))}
