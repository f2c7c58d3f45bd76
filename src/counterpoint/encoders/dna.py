"""Transformer encoders of DNA, over pieces learned from it (byte-pair encoding) or over its overlapping k-mers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from counterpoint.encoders import pretrained
from counterpoint.encoders.base import Encoder, seeded
from counterpoint.encoders.kmers import EXAMPLES, cleaned
from counterpoint.encoders.layout import Stage, revive
from counterpoint.encoders.pooling import Pooling, check
from counterpoint.encoders.text import TextTransformer, TextTransformerConfig
from counterpoint.encoders.tokenizer import SPECIAL
from counterpoint.errors import ConfigError, DataError
from counterpoint.modalities.dna import clean, codes

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

WORD = 64
"""Bases of the stretches that pieces are learned from; none is longer."""
LEARNED_FROM = 2_000_000
"""Bases that pieces are learned from, at most."""


@dataclass(frozen=True, kw_only=True)
class DnaTransformerConfig:
    """tokens: ``bpe``, pieces learned from the sequences, ``vocabulary`` of them; ``kmers``, overlapping words of ``k``
    bases. max_length: tokens of a sequence that are read. positions: ``sinusoidal``, fixed; ``none``. layers, width,
    heads, pooling, dropout: as of `TextTransformerConfig`."""

    layers: int = 6
    width: int = 384
    heads: int = 12
    tokens: Literal["bpe", "kmers"] = "bpe"
    vocabulary: int = 10_000
    k: int = 6
    max_length: int = 1024
    positions: Literal["sinusoidal", "none"] = "sinusoidal"
    pooling: Pooling = "mean"
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check(self.pooling)
        if self.tokens not in ("bpe", "kmers") or self.positions not in ("sinusoidal", "none"):
            raise ConfigError(
                f"tokens={self.tokens!r}, positions={self.positions!r}: type bpe or kmers, sinusoidal or none."
            )
        if self.tokens == "kmers" and not 1 <= self.k <= 8:
            raise ConfigError(f"k={self.k}: expected 1 to 8, as every word of so many bases has an embedding.")

    def text(self) -> TextTransformerConfig:
        """What is the same of a text encoder."""
        return TextTransformerConfig(
            layers=self.layers, width=self.width, heads=self.heads, max_length=self.max_length, pooling=self.pooling,
            dropout=self.dropout, vocabulary=self.vocabulary,
        )  # fmt: skip


class DnaTransformer(TextTransformer):
    """A transformer over the tokens of a sequence, and their mean.

    >>> config = DnaTransformerConfig(layers=1, width=16, heads=2, vocabulary=40, max_length=32)
    >>> encoder = DnaTransformer.from_texts(["ACGTTGCAAC" * 5, "GGTTAACCGT" * 5], config)
    >>> encoder.encode(["ACGTACGT", "ggtt"]).shape
    (2, 16)
    """

    kind: ClassVar[str] = "dna-transformer"
    modality: ClassVar[str] = "dna"
    choices: ClassVar[tuple[str, ...]] = ("transformer",)
    samples: ClassVar[Sequence[str]] = EXAMPLES
    config: DnaTransformerConfig  # type: ignore[assignment]  # it has all that the base reads

    def __init__(
        self,
        config: DnaTransformerConfig,
        tokenizer: PreTrainedTokenizerFast,
        *,
        transformer: PreTrainedModel | None = None,
    ) -> None:
        super().__init__(config.text(), tokenizer, transformer=transformer)
        self.config = config
        self._room = 0  # every view of a genome is new: nothing is worth remembering
        self._first = len(SPECIAL)
        embeddings: Any = self.transformer.embeddings
        places: Tensor = embeddings.position_embeddings.weight
        places.requires_grad_(False)
        with torch.no_grad():
            places.zero_() if config.positions == "none" else places.copy_(sinusoids(*places.shape))

    @classmethod
    def from_texts(  # type: ignore[override]
        cls, texts: Iterable[str], config: DnaTransformerConfig | None = None, *, sample: int = LEARNED_FROM
    ) -> Self:
        """Pieces from the first ``sample`` bases of the sequences, weights at random.

        config: of the model (None: the usual one).
        """
        config = config or DnaTransformerConfig()
        if config.tokens == "kmers":
            return cls(config, kmer_tokenizer(config.k, max_length=config.max_length))
        learned = train_pieces(texts, vocabulary=config.vocabulary, max_length=config.max_length, sample=sample)
        return cls(config, learned)

    @classmethod
    def configured(cls, choice: str, recipe: Any = None, *, smoke: bool = False) -> Any:
        small = DnaTransformerConfig(layers=2, width=128, heads=4, vocabulary=1000, max_length=512, positions="none")
        return recipe if isinstance(recipe, DnaTransformerConfig) else small

    @classmethod
    def published(cls, source: str | Path) -> Encoder:
        return super(TextTransformer, cls).published(source)  # none: those of texts are of no use

    @classmethod
    def example(cls, seed: int = 0) -> Self:
        config = DnaTransformerConfig(layers=2, width=32, heads=2, vocabulary=60, max_length=64)
        with seeded(seed):
            return cls.from_texts(cls.samples, config)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each sequence: whole, without special tokens or truncation. `DataError` for what is no DNA.

        texts: sequences.
        """
        sequences = cleaned(texts)
        if self.config.tokens == "bpe":
            return self._tokenised(sequences)
        found = (codes(s, self.config.k) for s in sequences)
        return [(self._first + f[f >= 0]).tolist() for f in found]

    def write(self, folder: Path) -> list[Stage]:
        stages = super().write(folder)
        # Other libraries find overlapping words only where a sequence is written as words with spaces between them.
        return stages if self.config.tokens == "bpe" else []

    @classmethod
    def read(cls, folder: Path, config: Mapping[str, Any]) -> Self:
        settings: DnaTransformerConfig = revive(DnaTransformerConfig, config)
        model = pretrained.model(folder)
        return cls(settings, pretrained.tokenizer(folder), transformer=model)


def sinusoids(length: int, width: int) -> Tensor:
    """Positions ``(length, width)``: sines and cosines of falling frequency (Vaswani et al. 2017, arXiv 1706.03762),
    times 0.02, the scale at which this family's embeddings begin."""
    place = torch.arange(length).unsqueeze(1)
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    out = torch.zeros(length, width)
    out[:, 0::2] = torch.sin(place * frequency)
    out[:, 1::2] = torch.cos(place * frequency[: width // 2])
    return 0.02 * out


# --- tokens ----------------------------------------------------------------------------------------------------


def train_pieces(
    sequences: Iterable[str], *, vocabulary: int, max_length: int, sample: int = LEARNED_FROM
) -> PreTrainedTokenizerFast:
    """Pieces of neighbouring bases that stand together often (byte-pair encoding, Sennrich et al. 2016, arXiv
    1508.07909). The same sequences always give the same ones.

    vocabulary: most pieces. max_length: tokens of the longest text, for other libraries. sample: bases that are looked
    at.
    """
    if vocabulary < len(SPECIAL) + 5:
        raise ConfigError(f"vocabulary={vocabulary}: it must hold {len(SPECIAL)} special tokens and the bases.")
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL["unk_token"], fuse_unk=True))
    # Whoever reads the file without Counterpoint may give lower case and the letters for several bases.
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(base.lower(), base) for base in "ACGT"]
        + [normalizers.Replace(Regex("[Uu]"), "T"), normalizers.Replace(Regex("[^ACGT]"), "N")]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=list("ACGT"),
        limit_alphabet=4,
        show_progress=False,
    )
    words = list(_words(sequences, sample))
    if not words:
        raise DataError("Pieces of DNA cannot be learned from sequences without a known base. Give some.")
    tokenizer.train_from_iterator(words, trainer, length=len(words))
    return _finished(tokenizer, max_length)


def kmer_tokenizer(k: int, *, max_length: int) -> PreTrainedTokenizerFast:
    """Every word of k bases, in order; other libraries read it where words are separated by spaces (as of DNABERT).

    max_length: tokens of the longest text, for other libraries.
    """
    known = [*SPECIAL.values(), *("".join(word) for word in product("ACGT", repeat=k))]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(known)}, unk_token=SPECIAL["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(SPECIAL.values()))
    return _finished(tokenizer, max_length)


def _finished(tokenizer: Tokenizer, max_length: int) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast  # here: importing transformers takes a second

    ends = [(t, tokenizer.token_to_id(t)) for t in (SPECIAL["cls_token"], SPECIAL["sep_token"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_length, **SPECIAL)


def _words(sequences: Iterable[str], most: int) -> Iterator[str]:
    """Stretches of known bases, of at most ``most`` bases in all."""
    left = most
    for sequence in sequences:
        for stretch in clean(sequence).split("N"):
            for at in range(0, min(len(stretch), left), WORD):
                yield stretch[at : at + WORD]
            left -= len(stretch)
            if left <= 0:
                return
