"""Language models that read with an encoder and write with a decoder (T5, BART), for whatever decodes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from counterpoint.encoders import pretrained
from counterpoint.encoders.base import evaluating
from counterpoint.encoders.border import reading
from counterpoint.encoders.causal import Step
from counterpoint.encoders.subwords import backend
from counterpoint.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


@dataclass
class Remembered:
    """What later steps need: keys and values of both attentions, and what was read, ``(N, S, D)`` and ``(N, S)``.
    States of a step are the decoder's.

    held: the transformer's own cache. mask: bool, True where what was read is real.
    """

    held: Any
    read: Tensor
    mask: Tensor

    def batch_repeat_interleave(self, times: int) -> None:
        """Every text so many times, one behind the other."""
        self.held.batch_repeat_interleave(times)
        self.read, self.mask = (x.repeat_interleave(times, 0) for x in (self.read, self.mask))

    def batch_select_indices(self, index: Tensor) -> None:
        """The texts of an index ``(N',)`` alone, in its order."""
        self.held.batch_select_indices(index)
        self.read, self.mask = self.read[index], self.mask[index]


class Seq2SeqLM:
    """A `transformers` model with an encoder and a decoder, which takes the place of a `CausalLM` wherever texts are
    written: prefixes are read whole by the encoder, what is new is written from nothing.

    ends: the tokens that end a text. begin: read in the place of an empty prefix. places: the tokens that each side has
    positions for (None: no limit), less those that the decoder begins with. transformer: the model. tokenizer: of its
    vocabulary.
    """

    apart: ClassVar[bool] = True

    def __init__(self, transformer: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        """Raises `ModelError` where nothing says what the decoder begins with."""
        self.transformer, self.tokenizer = transformer, tokenizer
        self._backend = backend(tokenizer)
        start, end = (self._setting(name) for name in ("decoder_start_token_id", "eos_token_id"))
        forced = getattr(transformer.generation_config, "forced_bos_token_id", None)
        if start is None:
            raise ModelError(
                "The model's configuration has no decoder_start_token_id, so its decoder has nothing to begin with. "
                "Add it to config.json (of T5 it is the padding token's)."
            )
        self._start = [int(x) for x in (start, forced) if x is not None]
        self.ends = tuple(end) if isinstance(end, list) else () if end is None else (int(end),)
        self.begin = self.ends[0] if self.ends else self._start[0]
        limit = pretrained.places(transformer.config)
        self.places = None if limit is None else limit - len(self._start)

    def _setting(self, name: str) -> Any:
        said = getattr(self.transformer.generation_config, name, None)
        return getattr(self.transformer.config, name, None) if said is None else said

    @classmethod
    def from_pretrained(cls, source: str | Path) -> Self:
        """A folder of `transformers`, or a hub id. Safetensors only; remote code is never run.

        source: its path or id.
        """
        folder = pretrained.locate(source)
        with reading(folder):
            return cls(pretrained.model(folder, kind="AutoModelForSeq2SeqLM"), pretrained.tokenizer(folder))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.transformer.device

    def evaluating(self) -> AbstractContextManager[None]:
        """Inside: no dropout, no gradients."""
        return evaluating(self.transformer)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, without special tokens."""
        return self._ids(texts, special=False)

    def prefix(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts that are read whole, with the special tokens around them."""
        return self._ids(texts, special=True)

    def _ids(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        return [found.ids for found in self._backend.encode_batch_fast(list(texts), add_special_tokens=special)]

    def text(self, ids: Sequence[int], prefix: Sequence[int] = ()) -> str:
        """What new tokens say, without special tokens; they stand behind no prefix.

        ids: the new tokens. prefix: has no part in it.
        """
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def step(self, ids: Tensor, mask: Tensor, cache: Remembered | None = None) -> Step:
        """Read prefixes ``(N, T)``, padding on the left as ``mask`` ``(N, T)`` bool says; or, with a cache, the token
        ``(N, 1)`` that was written last (its mask tells nothing new).

        ids: tokens. cache: of the step before.
        """
        if cache is None:
            # What has a table of positions counts padding too, so it goes to the right.
            order = (~mask).long().argsort(dim=1, stable=True)
            ids, real = ids.gather(1, order), mask.gather(1, order)
            read = self.transformer.get_encoder()(input_ids=ids, attention_mask=real.long()).last_hidden_state
            cache, ids = Remembered(None, read, real), ids.new_tensor(self._start).expand(len(ids), -1)
        out = self.transformer(
            encoder_outputs=(cache.read,),
            attention_mask=cache.mask.long(),
            decoder_input_ids=ids,
            past_key_values=cache.held,
            use_cache=True,
            output_hidden_states=True,
        )
        cache.held = out.past_key_values
        return Step(out.logits[:, -1], out.decoder_hidden_states[-1], cache)
