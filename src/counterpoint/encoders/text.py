"""Transformer text encoders: from scratch on the user's texts, from a folder, or from a hub id."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from counterpoint.data.batch import Data
from counterpoint.encoders import layers as parts
from counterpoint.encoders import pretrained
from counterpoint.encoders.base import VOCABULARY_FROM, Encoder, Source, Traced, seeded
from counterpoint.encoders.layout import Stage, revive
from counterpoint.encoders.pooling import JOINT, check, pool, token_at
from counterpoint.encoders.subwords import TEMPLATE, TextEncoder, check_template
from counterpoint.encoders.tokenizer import subwords, train_tokenizer
from counterpoint.errors import ConfigError, ModelError
from counterpoint.kernels.dropout import quicken

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

LAST = (-1,)
"""The last layer alone."""

PASS = {"cpu": 2048}
"""Tokens per pass by device: on a CPU small enough for its caches, large enough for its products. Elsewhere all."""


@dataclass(frozen=True, kw_only=True)
class TextTransformerConfig:
    """By default of the size of MiniLM: 6 layers, 384 wide.

    max_length: tokens of a text that are read. vocabulary, model, lowercase, identifiers: of the subwords, see
    `train_tokenizer`. pooling: see `Pooling`, several side by side as ``mean+max``; or ``prompt``: the text stands in
    ``template``, and its embedding is read at the mask token there (Jiang et al. 2022, arXiv 2201.04337).
    include_prompt: whether the tokens of a role's prompt are pooled with those of the text (Su et al. 2023, INSTRUCTOR,
    leave them out), the first special token counting with the prompt. architecture: a `transformers` configuration as a
    dict, with its ``model_type`` (`from_pretrained` fills it); it overrides layers, width, heads and dropout.
    """

    layers: int = 6
    width: int = 384
    heads: int = 12
    max_length: int = 256
    vocabulary: int = 30_000
    model: Literal["wordpiece", "bpe"] = "wordpiece"
    lowercase: bool = True
    identifiers: bool = False
    pooling: str = "mean"
    template: str = TEMPLATE
    include_prompt: bool = True
    dropout: float = 0.1
    architecture: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.pooling == "prompt":
            check_template(self.template)
        else:
            for part in self.pooling.split(JOINT):
                check(part, also=("prompt",) if part == self.pooling else ())
        if self.width % self.heads:
            raise ConfigError(f"width={self.width} does not divide among {self.heads} heads.")
        if self.architecture and "model_type" not in self.architecture:
            raise ConfigError("architecture needs its 'model_type', e.g. {'model_type': 'roberta', ...}.")


class TextTransformer(TextEncoder):
    """A transformer of `transformers` over subwords, and a pooling.

    Batches of mixed lengths cost what their real tokens cost: families that allow it are computed without padding
    (`counterpoint.encoders.packed`), others in parts of like length.

    >>> config = TextTransformerConfig(layers=1, width=16, heads=2, vocabulary=80, max_length=16)
    >>> encoder = TextTransformer.from_texts(["a cat sat on a mat", "a dog ran"] * 10, config)
    >>> encoder.encode(["a cat", "a dog"]).shape, encoder.encode("a cat").shape
    ((2, 16), (16,))
    """

    kind: ClassVar[str] = "text-transformer"
    choices: ClassVar[tuple[str, ...]] = ("transformer",)
    begins: ClassVar[Literal["recipe", "scratch"]] = "scratch"
    config: TextTransformerConfig

    def __init__(
        self,
        config: TextTransformerConfig,
        tokenizer: PreTrainedTokenizerFast,
        *,
        transformer: PreTrainedModel | None = None,
        prompts: Mapping[str, str] | None = None,
    ) -> None:
        """transformer: a model to take over (None: a fresh one, from the configuration)."""
        from transformers import AutoModel  # here: importing transformers takes seconds

        from counterpoint.encoders import packed

        super().__init__(tokenizer, max_length=config.max_length, prompts=prompts or {})
        self.config, self.include_prompt = config, config.include_prompt
        if config.pooling == "prompt":
            self.put_into(config.template)
        self.transformer = transformer or AutoModel.from_config(architecture(config, tokenizer))
        self.dim = self.transformer.config.hidden_size * len(config.pooling.split(JOINT))
        pretrained.check_length(config.max_length, self.transformer.config)
        if getattr(self.transformer, "pooler", None) is not None:
            # A layer on the first token for next-sentence prediction: our pooling reads the tokens themselves.
            self.transformer.pooler = None
        self._packed = packed.enable(self.transformer)
        self._norm: str | None = None  # found when it is first asked for, '' where there is none
        quicken(self.transformer)

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        config: TextTransformerConfig | None = None,
        *,
        prompts: Mapping[str, str] | None = None,
        sample: int = 200_000,
    ) -> Self:
        """A vocabulary from at most ``sample`` of the texts, weights at random.

        config: of the model (None: the usual one). prompts: role -> text before the item.
        """
        config = config or TextTransformerConfig()
        return cls(config, train_tokenizer(texts, **subwords(config), sample=sample), prompts=prompts)

    @classmethod
    def configured(cls, choice: str, recipe: Any = None, *, smoke: bool = False) -> Any:
        if smoke and not isinstance(recipe, TextTransformerConfig):
            return TextTransformerConfig(layers=2, width=64, heads=4, vocabulary=2000, max_length=64)
        return super().configured(choice, recipe, smoke=smoke)

    @classmethod
    def build(cls, config: Any, rows: Source) -> Self:
        return cls.from_texts(rows.texts(VOCABULARY_FROM), config)

    @classmethod
    def example(cls, seed: int = 0) -> Self:
        config = TextTransformerConfig(layers=2, width=32, heads=2, vocabulary=200, max_length=64)
        with seeded(seed):
            return cls.from_texts(cls.samples, config)

    @classmethod
    def published(cls, source: str | Path) -> Encoder:
        return cls.from_pretrained(source)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        pooling: str | None = None,
        template: str = TEMPLATE,
        max_length: int | None = None,
        prompts: Mapping[str, str] | None = None,
    ) -> Self:
        """Published weights: a folder of sentence-transformers or transformers, or a hub id where no such folder is.

        pooling, max_length, prompts: None takes what the folder says (a plain transformers folder: mean, all the
        positions it has, none). template: of pooling=prompt. Safetensors only; remote code is never run.

        Raises `ModelError` for a sentence-transformers folder with further modules behind the pooling, which
        `counterpoint.load` reads.

        source: its path or id.
        """
        found = pretrained.read(source)
        if found.said is not None and [s["type"] for s in found.said.stages] not in ([], ["Normalize"]):
            names = ", ".join(stage["type"] for stage in found.said.stages)
            raise ModelError(
                f"{source} has further modules behind the pooling ({names}), which a TextTransformer alone does not "
                "have. Load it with counterpoint.load(FOLDER)."
            )
        return cls.of(found, pooling=pooling, template=template, max_length=max_length, prompts=prompts)

    @classmethod
    def of(
        cls,
        found: pretrained.Found,
        *,
        pooling: str | None = None,
        template: str = TEMPLATE,
        max_length: int | None = None,
        prompts: Mapping[str, str] | None = None,
    ) -> Self:
        """The encoder of what was read, without the modules behind its pooling but for unit length. The settings are
        those of `from_pretrained`.

        found: what was read. pooling, template, max_length, prompts: None takes what was said beside it.
        """
        said = found.said
        config = TextTransformerConfig(
            **pretrained.shape(found.model, found.tokenizer),
            max_length=max_length or found.max_length,
            lowercase=found.lowercase,
            pooling=pooling or ("mean" if said is None else said.pooling),
            template=template,
            include_prompt=said is None or said.include_prompt,
            dropout=getattr(found.model.config, "hidden_dropout_prob", 0.0),
        )
        given = (said.prompts if said else {}) if prompts is None else prompts
        encoder = cls(config, found.tokenizer, transformer=found.model, prompts=given)
        # A transformers folder says nothing about unit length; a sentence-transformers folder without Normalize means
        # it.
        encoder.normalize = said is None or any(stage["type"] == "Normalize" for stage in said.stages)
        if said is not None:
            encoder.default_prompt, encoder.similarity = said.default_prompt, said.similarity
        return encoder

    @property
    def embedded(self) -> int | None:
        return int(self.transformer.get_input_embeddings().weight.shape[0])  # type: ignore[union-attr]

    def pooled_by(self, pooling: str, *, template: str = TEMPLATE) -> Self:
        """An encoder of the same weights (shared, not copied) that pools otherwise.

        pooling: the mode. template: of pooling=prompt.
        """
        twin = copy.copy(self)
        twin._modules = dict(self._modules)
        twin.config = replace(self.config, pooling=pooling, template=template)
        twin.dim = self.transformer.config.hidden_size * len(pooling.split(JOINT))
        twin.asked = None
        twin._before, twin._after = twin._around()
        if pooling == "prompt":
            twin.put_into(template)
        return twin

    # --- the passes --------------------------------------------------------------------------------------------------

    def pool(self, hidden: Tensor, mask: Tensor | None, skip: Tensor | None = None) -> Tensor:
        """``(N, T, D)`` to ``(N, D)``, as the configuration says. skip: as of `counterpoint.encoders.pooling.pool`.

        hidden: of the tokens. mask: ``(N, T)``, nonzero = real.
        """
        if self.asked is not None:
            return token_at(hidden, mask, self.asked)
        return pool(hidden, mask, mode=self.config.pooling, skip=skip)

    def collate(self, items: Sequence[Any], role: str | None = None) -> dict[str, Tensor]:
        """As every text encoder's; where prompts are not pooled, with ``skip`` ``(N, 1)``, the tokens to leave out."""
        data = super().collate(items, role)
        if not self.include_prompt:
            prompt = self.prompt(role)
            data["skip"] = torch.full((len(items), 1), self._prompt_tokens(prompt) if prompt else 0)
        return data

    def _prompt_tokens(self, prompt: str) -> int:
        """Tokens of a prompt with what stands before it, as sentence-transformers counts them."""
        (row,) = self.collate_ids(self.ids([prompt]))["input_ids"].tolist()
        return len(row) - (row[-1] in self.tokenizer.all_special_ids)

    def forward(self, data: Data) -> Tensor:
        return self._pooled(data, LAST)[:, 0]

    def exits(self, data: Data, layers: Sequence[int]) -> Tensor:
        """What the encoder gives if it stops after each of these layers, ``(N, len(layers), D)``, from one pass.

        layers: 1 to `depth`, in any order. See `counterpoint.encoders.truncate.truncated` for an encoder that gives one
        of them alone. data: as `collate` gives it.
        """
        for n in layers:
            parts.check(n, self.depth)
        return self._pooled(data, tuple(layers))

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(parts.stack(self.transformer)[1])

    def _pooled(self, data: Data, layers: Sequence[int]) -> Tensor:
        """``(N, len(layers), D)``, with the norm that ends the layers, where there is one.

        The last layer is named by -1 or by its number; its states come with that norm already.
        """
        norm, last = (None, -1) if layers == LAST else (self._final_norm(), self.depth)
        rows, pooled = [], []
        skips = data.get("skip") if isinstance(data, Mapping) else None
        for row, hidden, mask in self._passes(data, layers):
            rows.append(row)
            skip = None if skips is None else skips[row].squeeze(1)
            ready = (h if norm is None or n in (-1, last) else norm(h) for n, h in zip(layers, hidden))
            pooled.append(torch.stack([self.pool(h, mask, skip) for h in ready], dim=1))
        if not pooled:
            return next(self.parameters()).new_zeros(0, len(layers), self.dim)
        # One gather puts the rows back in order; its gradient is a scatter without collisions.
        return torch.cat(pooled)[torch.cat(rows).argsort()]

    def _final_norm(self) -> nn.Module | None:
        if self._norm is None:
            self._norm = parts.final_norm(self.transformer)
        return self.transformer.get_submodule(self._norm) if self._norm else None

    def tokens(self, data: Data) -> tuple[Tensor, Tensor]:
        """Last hidden states ``(N, T, D)``, zero where the mask ``(N, T)`` is False.

        data: as `collate` gives it.
        """
        return self.hidden_states(data, last=True)[0], _mask(data).bool()

    def hidden_states(self, data: Data, *, last: bool = False) -> list[Tensor]:
        """Hidden states ``(N, T, D)`` of the embedding layer and of every layer after it (last: of the last only).

        data: as `collate` gives it.
        """
        mask = _mask(data).bool()
        at = mask.nonzero()  # (tokens, 2), row by row
        first = torch.nn.functional.pad(mask.sum(1).cumsum(0), (1, 0))[:-1]
        places: list[Tensor] = []
        states: list[list[Tensor]] = []
        for row, hidden, part in self._passes(data, LAST if last else range(self.depth + 1)):
            if part is None:
                part = torch.ones(hidden[-1].shape[:2], dtype=torch.bool, device=mask.device)
            offset = (part.cumsum(1) - 1 + first[row].unsqueeze(1))[part]
            real = mask.any(1)[row].unsqueeze(1).expand(part.shape)[part]  # rows without a token stay zero
            places.append(at[offset[real]])
            states.append([h[part][real] for h in hidden])
        out = []
        for layer in zip(*states):
            place, value = torch.cat(places), torch.cat(layer)
            empty = value.new_zeros(*mask.shape, value.shape[-1])
            out.append(empty.index_put((place[:, 0], place[:, 1]), value))
        return out

    def _passes(
        self, data: Data, layers: Sequence[int] = LAST
    ) -> Iterator[tuple[Tensor, tuple[Tensor, ...], Tensor | None]]:
        """(rows, hidden states (n, t, D) of the asked layers, mask (n, t) or None), texts of like length together."""
        assert not isinstance(data, Tensor)
        ids, mask = data["input_ids"], _mask(data).bool()
        if len(ids) and not bool((real := mask.any(1)).all()):
            mask = mask.clone()
            mask[~real, 0] = True  # a row without a token reads its first place: finite, whatever it says
        lengths, order = in_order(mask)
        parts = list(_parts(lengths.tolist(), ids.device, self._packed))
        run = self._run_packed if self._packed else self._run_padded
        start = 0
        for hidden, kept in run(ids[order], mask[order], lengths.tolist(), parts, layers):
            count = len(hidden[-1])
            yield order[start : start + count], hidden, kept
            start += count

    def _run_packed(
        self, ids: Tensor, mask: Tensor, lengths: list[int], parts: list[slice], layers: Sequence[int]
    ) -> Iterator[tuple[tuple[Tensor, ...], None]]:
        from counterpoint.encoders import packed

        # Looked up once for all passes: the gradient of a lookup is as large as the vocabulary.
        words = self.transformer.get_input_embeddings()(ids[mask])
        for part, tokens in zip(parts, words.split([sum(lengths[part]) for part in parts])):
            groups = packed.groups(lengths[part])
            out = self.transformer(
                inputs_embeds=tokens.unsqueeze(0),
                position_ids=packed.positions(self.transformer, groups, ids.device),
                output_hidden_states=layers != LAST,
                groups=groups,
            )
            # Split, not sliced: the gradient of a slice is as large as what it was cut from.
            cut = [layer[0].split([count * length for _, count, length in groups]) for layer in _states(out, layers)]
            for (_, count, length), hidden in zip(groups, zip(*cut)):
                yield tuple(h.unflatten(0, (count, length)) for h in hidden), None

    def _run_padded(
        self, ids: Tensor, mask: Tensor, lengths: list[int], parts: list[slice], layers: Sequence[int]
    ) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
        for part in parts:
            # Real tokens to the front: a text may lie anywhere among its padding.
            front = mask[part].long().argsort(dim=1, descending=True, stable=True)[:, : lengths[part.start]]
            tokens, kept = ids[part].gather(1, front), mask[part].gather(1, front)
            out = self.transformer(input_ids=tokens, attention_mask=kept.long(), output_hidden_states=layers != LAST)
            yield _states(out, layers), kept

    def traced(self) -> Traced:
        """All texts as one padded batch."""
        if not self.include_prompt and any(self.prompts.values()):
            raise ModelError(
                "This encoder leaves its prompts out of the pooling, and an ONNX file that reads token ids cannot tell "
                "them from the text. Type: --to sentence-transformers"
            )

        def forward(ids: Tensor, mask: Tensor) -> Tensor:
            return self.pool(self.transformer(input_ids=ids, attention_mask=mask).last_hidden_state, mask)

        return self._traced(forward, ("input_ids", "attention_mask"))

    def _batches(self, items: Sequence[Any], role: str | None, budget: int) -> Iterator[tuple[np.ndarray, Data]]:
        # Cut to passes already here, each is a thread's work.
        return super()._batches(items, role, min(budget, PASS.get(self.device.type, budget)))

    @contextmanager
    def _computing(self, precision: str) -> Iterator[Callable[[Data], Tensor]]:
        if precision == "float32":
            yield self
            return
        # Autocast would convert every weight again for every pass.
        twin = copy.copy(self)
        twin._modules = dict(self._modules) | {"transformer": copy.deepcopy(self.transformer).bfloat16()}
        yield twin

    # --- on disk -----------------------------------------------------------------------------------------------------

    def write(self, folder: Path) -> list[Stage]:
        self.tokenizer.model_max_length = self.max_length
        pooling = None if self.config.pooling == "prompt" else self.config.pooling
        prompt = self.include_prompt
        return pretrained.write(folder, self.transformer, self.tokenizer, pooling=pooling, include_prompt=prompt)

    @classmethod
    def read(cls, folder: Path, config: Mapping[str, Any]) -> Self:
        settings: TextTransformerConfig = revive(TextTransformerConfig, config)
        model = pretrained.model(folder)
        return cls(settings, pretrained.tokenizer(folder), transformer=model)


def in_order(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Lengths of texts, ``(N,)`` from the longest, and the order in which they pass the transformer.

    mask: ``(N, T)``, nonzero = real.
    """
    lengths, order = mask.sum(1).clamp(min=1).sort(descending=True, stable=True)
    return lengths, order


def _mask(data: Data) -> Tensor:
    assert not isinstance(data, Tensor)
    return data["attention_mask"]


def _states(out: Any, layers: Sequence[int]) -> tuple[Tensor, ...]:
    return (out.last_hidden_state,) if layers == LAST else tuple(out.hidden_states[n] for n in layers)


def architecture(config: TextTransformerConfig, tokenizer: PreTrainedTokenizerFast) -> Any:
    """The `transformers` configuration of a fresh model.

    config: of ours. tokenizer: of its vocabulary.
    """
    from transformers import AutoConfig, BertConfig

    if config.architecture:
        known = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        return AutoConfig.for_model(**(known | config.architecture))
    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=4 * config.width,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        max_position_embeddings=config.max_length,
        pad_token_id=tokenizer.pad_token_id,
    )


def _parts(lengths: list[int], device: torch.device, dense: bool) -> Iterator[slice]:
    """Cuts texts, sorted by length, into passes.

    Without padding (dense): as many as the device's pass holds. With it: a new pass begins where the padding so far
    costs more than the pass itself, which is worth some 32 tokens on a CPU and thousands where launches dominate.
    """
    most = PASS.get(device.type, 1 << 60)
    worth = 32 if device.type == "cpu" else 8192
    start = tokens = padding = 0
    for i, length in enumerate(lengths):
        cost = length if dense else lengths[start]
        waste = padding + lengths[start] - length
        if i > start and (tokens + cost > most or (not dense and waste > worth)):
            yield slice(start, i)
            start, tokens, padding = i, 0, 0
            cost = length
        tokens += cost
        padding += lengths[start] - length
    if lengths:
        yield slice(start, len(lengths))
