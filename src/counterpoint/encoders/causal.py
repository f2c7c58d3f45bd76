"""Causal language models: each token is read with those before it alone, and says what comes next.

As an encoder, a model gives the pooled states of its last layer; as a language model, it reads on token by token with a
cache of keys and values, which is what `counterpoint.decode` asks of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from torch import Tensor

from counterpoint.data.batch import Data
from counterpoint.encoders import pretrained
from counterpoint.encoders.base import VOCABULARY_FROM, Source, Traced, seeded, small_rows
from counterpoint.encoders.border import reading
from counterpoint.encoders.layout import Stage, revive
from counterpoint.encoders.pooling import Pooling, check, pool
from counterpoint.encoders.subwords import TextEncoder
from counterpoint.encoders.tokenizer import subwords, train_tokenizer
from counterpoint.errors import ConfigError
from counterpoint.kernels.dropout import quicken

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel, PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class CausalLMConfig:
    """By default of the size of GPT-2 small: 12 layers, 768 wide.

    max_length: tokens of a text that are read, and that can be written. vocabulary, model, lowercase: of the subwords,
    see `train_tokenizer`. pooling: of the last states, as an encoder. architecture: a `transformers` configuration as a
    dict, with its ``model_type`` (`from_pretrained` fills it); it overrides layers, width, heads and dropout.
    """

    layers: int = 12
    width: int = 768
    heads: int = 12
    max_length: int = 256
    vocabulary: int = 30_000
    model: Literal["wordpiece", "bpe"] = "wordpiece"
    lowercase: bool = False
    pooling: Pooling = "mean"
    dropout: float = 0.1
    architecture: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(self.pooling)
        if self.width % self.heads:
            raise ConfigError(f"width={self.width} does not divide among {self.heads} heads.")
        if self.architecture and "model_type" not in self.architecture:
            raise ConfigError("architecture needs its 'model_type', e.g. {'model_type': 'gpt2', ...}.")


@dataclass(frozen=True)
class Step:
    """What a model says after it has read some tokens.

    logits: ``(N, V)`` of the token that comes next. states: ``(N, T, D)``, the last layer's, of the T tokens just read.
    cache: keys and values of all that was read, or what else the model keeps of it; the next step writes into it.
    """

    logits: Tensor
    states: Tensor
    cache: Any


class CausalLM(TextEncoder):
    """A causal language model of `transformers` over subwords.

    ends: the tokens that end a text. begin: the token that stands before the first one where nothing else does.
    places: the tokens it has positions for (None: no limit). A text is read from the tokenizer's first special tokens,
    where it has any, to its last, or to the end token.

    >>> config = CausalLMConfig(layers=1, width=16, heads=2, vocabulary=80, max_length=16)
    >>> model = CausalLM.from_texts(["a cat sat on a mat", "a dog ran"] * 10, config)
    >>> data = model.collate(["a cat sat"])
    >>> logits, states = model.predictions(data)
    >>> logits.shape[:2] == states.shape[:2], model.encode(["a cat"]).shape
    (True, (1, 16))
    """

    kind: ClassVar[str] = "causal-lm"
    choices: ClassVar[tuple[str, ...]] = ("causal", "transformer")
    begins: ClassVar[Literal["recipe", "scratch"]] = "scratch"
    apart: ClassVar[bool] = False  # what it writes stands behind what it read
    config: CausalLMConfig

    def __init__(
        self,
        config: CausalLMConfig,
        tokenizer: PreTrainedTokenizerFast,
        *,
        transformer: PreTrainedModel | None = None,
        prompts: Mapping[str, str] | None = None,
    ) -> None:
        """transformer: a model to take over (None: a fresh one, from the configuration)."""
        from transformers import AutoModelForCausalLM  # here: importing transformers takes seconds

        super().__init__(tokenizer, max_length=config.max_length, prompts=prompts or {})
        self.config = config
        self.transformer = transformer or AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            _architecture(config, tokenizer)
        )
        settings = self.transformer.config
        self.dim = settings.hidden_size
        self.places = pretrained.places(settings)
        pretrained.check_length(config.max_length, settings)
        said = getattr(self.transformer.generation_config, "eos_token_id", None) or settings.eos_token_id
        self.ends = tuple(said) if isinstance(said, list) else () if said is None else (said,)
        first = [settings.bos_token_id, *self._before, *self.ends]
        self.begin: int = next((i for i in first if i is not None), self.pad)
        takes = inspect.signature(self.transformer.forward).parameters
        self._numbered = "position_ids" in takes  # the others find positions by the mask
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        quicken(self.transformer)

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        config: CausalLMConfig | None = None,
        *,
        prompts: Mapping[str, str] | None = None,
        sample: int = 200_000,
    ) -> Self:
        """A vocabulary from at most ``sample`` of the texts, weights at random.

        config: of the model (None: the usual one). prompts: role -> text before the item.
        """
        config = config or CausalLMConfig()
        return cls(config, train_tokenizer(texts, **subwords(config), sample=sample), prompts=prompts)

    @classmethod
    def configured(cls, choice: str, recipe: Any = None, *, smoke: bool = False) -> Any:
        if smoke and not isinstance(recipe, CausalLMConfig):
            return CausalLMConfig(layers=2, width=64, heads=4, vocabulary=2000, max_length=64)
        return super().configured(choice, recipe, smoke=smoke)

    @classmethod
    def build(cls, config: Any, rows: Source) -> Self:
        return cls.from_texts(rows.texts(VOCABULARY_FROM), config)

    @classmethod
    def example(cls, seed: int = 0) -> Self:
        config = CausalLMConfig(layers=2, width=32, heads=2, vocabulary=200, max_length=64)
        with seeded(seed):
            return cls.build(config, small_rows(cls.modality))

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        pooling: Pooling = "mean",
        max_length: int | None = None,
        prompts: Mapping[str, str] | None = None,
    ) -> Self:
        """Published weights: a folder of `transformers`, or a hub id where no such folder is.

        max_length: None takes all the positions it has. Safetensors only; remote code is never run. source: its path or
        id. pooling: of the states, to an embedding. prompts: role -> text before the item.
        """
        folder = pretrained.locate(source)
        model = pretrained.model(folder, kind="AutoModelForCausalLM")
        if max_length:
            pretrained.check_length(max_length, model.config)
        with reading(folder):
            tokenizer = pretrained.tokenizer(folder)
            if tokenizer.pad_token_id is None:
                tokenizer.pad_token = tokenizer.eos_token  # hidden by the mask wherever it fills a row
            config = CausalLMConfig(
                **pretrained.shape(model, tokenizer),
                max_length=max_length or pretrained.longest(model, tokenizer),
                pooling=pooling,
            )
            return cls(config, tokenizer, transformer=model, prompts=prompts)

    @property
    def embedded(self) -> int | None:
        return int(self.transformer.get_input_embeddings().weight.shape[0])  # type: ignore[union-attr]

    # --- as an encoder -----------------------------------------------------------------------------------------------

    def forward(self, data: Data) -> Tensor:
        return pool(*self.tokens(data), mode=self.config.pooling)

    def tokens(self, data: Data) -> tuple[Tensor, Tensor]:
        """Last hidden states ``(N, T, D)``, zero where the mask ``(N, T)`` is False.

        data: as `collate` gives it.
        """
        assert not isinstance(data, Tensor)
        mask = data["attention_mask"].bool()
        if not len(mask):
            return next(self.parameters()).new_zeros(*mask.shape, self.dim), mask
        out = self.transformer.base_model(input_ids=data["input_ids"], attention_mask=mask.long(), use_cache=False)
        return out.last_hidden_state.masked_fill(~mask.unsqueeze(-1), 0.0), mask

    def traced(self) -> Traced:
        def forward(ids: Tensor, mask: Tensor) -> Tensor:
            out = self.transformer.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
            return pool(out.last_hidden_state, mask, mode=self.config.pooling)

        return self._traced(forward, ("input_ids", "attention_mask"))

    # --- as a language model -----------------------------------------------------------------------------------------

    def prefix(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of the beginnings of texts, behind the special tokens that texts begin with."""
        return [[*self._before, *ids] for ids in self.ids(texts)]

    def windows(self, texts: Sequence[str], rng: np.random.Generator | None = None) -> dict[str, Tensor]:
        """Whole texts with their end, ``input_ids`` and ``attention_mask`` ``(N, T)``; of those longer than
        ``max_length`` tokens a window: a random one, or the first (rng None)."""
        rows = []
        for ids in self.ids(texts):
            row = [*self._before, *ids, *(self._after or self.ends[:1])] or [self.pad]
            spare = len(row) - self.max_length
            start = int(rng.integers(spare + 1)) if rng is not None and spare > 0 else 0
            rows.append(row[start : start + self.max_length])
        return self.padded(rows)

    def predictions(self, data: Data) -> tuple[Tensor, Tensor]:
        """Logits ``(N, T, V)`` of the token after each one, and last states ``(N, T, D)``; padding on the right.

        data: as `collate` or `windows` gives it.
        """
        assert not isinstance(data, Tensor)
        ids = data["input_ids"]
        if not len(ids):
            nothing = next(self.parameters()).new_zeros
            return nothing(*ids.shape, self.transformer.config.vocab_size), nothing(*ids.shape, self.dim)
        out = self.transformer(
            input_ids=ids,
            attention_mask=data["attention_mask"],
            use_cache=False,
            output_hidden_states=True,
        )
        return out.logits, out.hidden_states[-1]

    def step(self, ids: Tensor, mask: Tensor, cache: Cache | None = None) -> Step:
        """Read tokens ``(N, T)`` behind those in the cache. mask: ``(N, S)`` bool, the real ones among all S tokens
        read so far and now, padding on the left.

        ids: tokens to be read. cache: of the step before (None: nothing was read).
        """
        settings: dict[str, Any] = dict(self._last_only)
        if self._numbered:
            settings["position_ids"] = (mask.cumsum(1) - 1).clamp_min(0)[:, -ids.shape[1] :]
        out = self.transformer(
            input_ids=ids,
            attention_mask=mask.long(),
            past_key_values=cache,
            use_cache=True,
            output_hidden_states=True,
            **settings,
        )
        return Step(out.logits[:, -1], out.hidden_states[-1], out.past_key_values)

    def text(self, ids: Sequence[int], prefix: Sequence[int] = ()) -> str:
        """What new tokens say behind the tokens of a prefix, without special tokens.

        ids: new tokens. prefix: those before.
        """
        before, whole = self._said(prefix), self._said([*prefix, *ids])
        return whole.removeprefix(before) if whole.startswith(before) else self._said(ids)

    def _said(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    # --- on disk -----------------------------------------------------------------------------------------------------

    def write(self, folder: Path) -> list[Stage]:
        self.tokenizer.model_max_length = self.max_length
        return pretrained.write(folder, self.transformer, self.tokenizer, pooling=self.config.pooling)

    @classmethod
    def read(cls, folder: Path, config: Mapping[str, Any]) -> Self:
        settings: CausalLMConfig = revive(CausalLMConfig, config)
        model = pretrained.model(folder, kind="AutoModelForCausalLM")
        return cls(settings, pretrained.tokenizer(folder), transformer=model)


def _architecture(config: CausalLMConfig, tokenizer: PreTrainedTokenizerFast) -> Any:
    from transformers import AutoConfig, GPT2Config

    known = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id or tokenizer.cls_token_id,
        "eos_token_id": tokenizer.eos_token_id or tokenizer.sep_token_id,
    }
    if config.architecture:
        return AutoConfig.for_model(**(known | config.architecture))
    return GPT2Config(
        n_embd=config.width,
        n_layer=config.layers,
        n_head=config.heads,
        n_positions=config.max_length,
        resid_pdrop=config.dropout,
        embd_pdrop=config.dropout,
        attn_pdrop=config.dropout,
        **known,
    )
