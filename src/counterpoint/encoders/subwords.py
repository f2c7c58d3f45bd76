"""What text encoders share: from strings to padded token ids, quickly, and batches of like length."""

from __future__ import annotations

import json
import warnings
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from tokenizers import Tokenizer, processors
from torch import Tensor

from counterpoint.data.batch import Data
from counterpoint.encoders.base import Encoder, Traced
from counterpoint.encoders.bulk import buckets, placed
from counterpoint.errors import ConfigError, DataError, ItemError, ModelError
from counterpoint.files import write_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TEMPLATE = 'This sentence : "{}" means [MASK] .'
"""A text between words that end in a question, which a model of masked words answers at ``[MASK]``."""

WINDOW = 4096
"""Texts that `encode` tokenises at once and sorts by length among themselves; bounds memory on millions of texts."""

REMEMBERED = 64_000_000
"""Characters of training texts whose token ids are kept: every epoch after the first then skips the tokenizer."""


def backend(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """A copy without padding and truncation, as these are settings inside the object, which threads share.

    tokenizer: stays as it is.
    """
    copied = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    copied.no_padding()
    copied.no_truncation()
    return copied


_SAMPLES = (
    "What is counterpoint?",
    "",
    "Voices that are independent in rhythm and in contour, and sound well together.",
    "The quick brown fox jumps over the lazy dog, and seven bright birds sing.",
    "While the birds sing, the lazy dog sleeps near an old stone bridge at dawn.",
    "Two voices in counterpoint: what the first voice says, the second answers.",
)


class TextEncoder(Encoder):
    """Strings to token ids. max_length: in tokens, special ones included; what is longer is cut, counted, told once.

    special: whether the tokenizer's special tokens are put around each text. truncated: texts cut so far. asked: the
    place of the mask token that a template puts beside each text, from the end where negative (None: no template).
    samples: texts that ONNX files are checked with.
    """

    modality: ClassVar[str] = "text"
    special: ClassVar[bool] = True
    samples: ClassVar[Sequence[str]] = _SAMPLES

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, max_length: int, prompts: Mapping[str, str]) -> None:
        super().__init__()
        self.tokenizer, self.max_length, self.prompts = tokenizer, max_length, dict(prompts)
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self.fill = {"input_ids": self.pad}
        self.truncated = 0
        self._backend = backend(tokenizer)
        self._left = tokenizer.truncation_side == "left"
        self._seen: dict[str, array[int]] = {}
        self._room = REMEMBERED
        self.asked: int | None = None
        self._before, self._after = self._around() if self.special else ([], [])
        self._check_room()

    @property
    def embedded(self) -> int | None:
        """Tokens that there is an embedding of; None: nobody knows."""
        return None

    def _check_room(self) -> None:
        if self.max_length <= (around := len(self._before) + len(self._after)):
            raise DataError(
                f"max_length={self.max_length} leaves no room for text besides the {around} tokens put around it."
            )

    def _around(self) -> tuple[list[int], list[int]]:
        """The special tokens before and after a text."""
        bare, full = (self._backend.encode("a", add_special_tokens=add).ids for add in (False, True))
        for start in range(len(full) - len(bare) + 1):
            if full[start : start + len(bare)] == bare:
                return full[:start], full[start + len(bare) :]
        raise ModelError(
            "This tokenizer changes the text when it adds special tokens, which Counterpoint cannot follow."
        )

    def put_into(self, template: str) -> None:
        """Every text stands in a template from now on, whole: where both are too long, it is the text that is cut.

        template: words with one ``{}``, for the text, and one ``[MASK]``, for the tokenizer's mask token.
        """
        check_template(template)
        mask = self.tokenizer.mask_token_id
        if mask is None:
            raise ConfigError(
                "pooling=prompt reads what stands at the mask token, and this tokenizer has none. Start from a model "
                "of masked words, such as BERT, or take pooling=mean."
            )
        left, right = ([self._tokenised([part])[0] for part in side.split("[MASK]")] for side in template.split("{}"))
        before, after = self._around()
        self._before, self._after = [*before, *_joined(left, mask)], [*_joined(right, mask), *after]
        first = len(left) > 1  # the mask stands before the text
        self.asked = len(before) + len(left[0]) if first else len(right[0]) - len(self._after)
        self._check_room()

    def around_as_json(self) -> dict[str, Any]:
        """What is put around each text, as `tokenizers` writes it into a file."""
        sides = {"before": self._before, "after": self._after}
        names = {name: [str(self._backend.id_to_token(i)) for i in ids] for name, ids in sides.items()}
        parts = [{"id": name, "ids": ids, "tokens": names[name]} for name, ids in sides.items()]
        made = processors.TemplateProcessing(single="before $A after", special_tokens=parts)
        found: dict[str, Any] = json.loads(made.__getstate__())
        return found

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text: whole, without prompt, special tokens or truncation."""
        self.check(texts)
        return self._remembered(texts) if self.training else self._tokenised(texts)

    def check(self, items: Sequence[Any]) -> None:
        """Texts are strings, and nothing else: the tokenizer would take a list of two for a pair of texts."""
        for place, text in enumerate(items):
            if not isinstance(text, str):
                given = type(text).__name__
                raise ItemError(
                    f"Texts are strings; item {{place}} is of the type {given}. Leave out rows without text, or give ''"
                    " for them; a list of texts is given flat.",
                    place,
                    len(items),
                )

    def _tokenised(self, texts: Sequence[str]) -> list[list[int]]:
        try:
            return [e.ids for e in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]
        except (TypeError, UnicodeEncodeError) as error:
            wrong = next((i for i, text in enumerate(texts) if not _encodable(text)), None)
            if wrong is None:
                raise
            raise ItemError(
                "Text {place} of {of} holds half of a surrogate pair, which is no character: it was cut inside one, or "
                "read with the wrong encoding. Mend it, or give text.encode('utf-8', 'replace').decode().",
                wrong,
                len(texts),
            ) from error

    def _remembered(self, texts: Sequence[str]) -> list[list[int]]:
        new = [text for text in dict.fromkeys(texts) if text not in self._seen]
        fresh = dict(zip(new, self._tokenised(new))) if new else {}
        for text, ids in fresh.items():
            if len(text) <= self._room:
                self._room -= len(text)
                self._seen[text] = array("i", ids)
        return [list(fresh[text]) if text in fresh else self._seen[text].tolist() for text in texts]

    def collate_ids(self, ids: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """``input_ids`` and ``attention_mask``, ``(N, T)`` long, T = longest; special tokens added, cut, padded."""
        room = self.max_length - len(self._before) - len(self._after)
        if cut := sum(len(row) > room for row in ids):
            self._tell(cut, len(ids))
        # An encoder needs at least one token: an empty text without special tokens is one padding token.
        kept = (self._reduced(self._cut(row, room)) for row in ids)
        return self.padded([[*self._before, *row, *self._after] or [self.pad] for row in kept])

    def _cut(self, row: Sequence[int], room: int) -> Sequence[int]:
        """The tokens of a text that are read, from the side that the tokenizer keeps."""
        return row[-room:] if self._left else row[:room]

    def padded(self, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Token ids, as they are, with what fills the shorter rows: ``input_ids``, ``attention_mask`` ``(N, T)``."""
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        real = np.arange(lengths.max(initial=1)) < lengths[:, None]
        out = np.full(real.shape, self.pad, dtype=np.int64)
        out[real] = np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum()))
        if (size := self.embedded) and out.max(initial=0) >= size:
            token = int(out.max())
            raise ModelError(
                f"The tokenizer gives the token {token:,} ({self._backend.id_to_token(token)!r}), and the "
                f"{self.tower} has embeddings of {size:,}: they do not belong together. Take the tokenizer that the "
                "model was trained with."
            )
        return {"input_ids": torch.from_numpy(out), "attention_mask": torch.from_numpy(real.astype(np.int64))}

    def _reduced(self, row: Sequence[int]) -> Sequence[int]:
        """What of a text's tokens, cut to length, is kept."""
        return row

    def collate(self, items: Sequence[Any], role: str | None = None) -> dict[str, Tensor]:
        """Strings to `collate_ids`' tensors. role: whose prompt is put before each text, where there is one (None: the
        default one, where there is one)."""
        prompt = self.prompt(role)
        if prompt:
            self.check(items)
        return self.collate_ids(self.ids([prompt + text for text in items] if prompt else items))

    def lengths(self, items: Sequence[Any]) -> np.ndarray:
        """Tokens of each text as the encoder sees it, ``(N,)`` int."""
        around = len(self._before) + len(self._after)
        counts = np.fromiter(map(len, self.ids(items)), np.int64, len(items)) + around
        return np.clip(counts, 1, self.max_length)

    def _batches(self, items: Sequence[Any], role: str | None, budget: int) -> Iterator[tuple[np.ndarray, Data]]:
        # Each text is tokenised once: lengths come from the collated window.
        for start in range(0, len(items), WINDOW):
            some = items[start : start + WINDOW]
            with placed(range(start, start + len(some)), len(items)):
                data = self.collate(some, role)
            lengths = data["attention_mask"].sum(1).numpy()
            for index in buckets(lengths, budget):
                longest = int(lengths[index[0]])
                row = torch.from_numpy(index)
                yield start + index, {k: v[row, :longest] for k, v in data.items()}

    # --- for other programs ----------------------------------------------------------------------------------------

    def _traced(self, forward: Callable[..., Tensor], names: Sequence[str]) -> Traced:
        """See `Encoder.traced`: texts of any number and length, and the tokenizer beside the file."""
        return Traced(
            forward=forward,
            example=self.collate(list(self.samples[:3])),
            names=tuple(names),
            free={0: "batch", 1: "length"},
            beside=self._write_tokenizer,
        )

    def _write_tokenizer(self, path: Path) -> None:
        """The tokenizer alone, with the encoder's truncation and special tokens, as ``NAME.tokenizer.json``."""
        said = json.loads(self.tokenizer.backend_tokenizer.to_str())
        said["truncation"] = {
            "direction": "Left" if self._left else "Right",
            "max_length": self.max_length,
            "strategy": "LongestFirst",
            "stride": 0,
        }
        if not self.special:
            said["post_processor"] = None
        elif self.asked is not None:
            said["post_processor"] = self.around_as_json()
        write_text(path.with_suffix(".tokenizer.json"), json.dumps(said, ensure_ascii=False))

    def _tell(self, cut: int, of: int) -> None:
        if not self.truncated:
            warnings.warn(
                f"{cut} of {of} texts are longer than max_length={self.max_length} tokens; what is beyond is not read. "
                "(Told once; `encoder.truncated` keeps the count.)",
                stacklevel=3,
            )
        self.truncated += cut


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _joined(parts: list[list[int]], mask: int) -> list[int]:
    """The words of one side of a template, with the mask between them where it is on this side."""
    return parts[0] if len(parts) == 1 else [*parts[0], mask, *parts[1]]


def check_template(template: str) -> None:
    """Refuse a template without one place for the text and one for the mask."""
    if template.count("{}") != 1 or template.count("[MASK]") != 1:
        raise ConfigError(
            f"template={template!r}: write {{}} once, where the text goes, and [MASK] once, where its embedding is "
            f"read, as in {TEMPLATE!r}."
        )
