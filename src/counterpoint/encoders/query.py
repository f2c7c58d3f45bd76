"""Questions to a static text encoder without torch: a shell's `search` is over before torch would be imported.

`StaticQueries` reads the folder of a `counterpoint.encoders.static.StaticText` and gives the same embeddings to 1e-6,
for a few texts at a time: of its table only the rows of their tokens are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from counterpoint.encoders.border import check_tokens, read_object, reading
from counterpoint.encoders.prompts import check_role, known_roles
from counterpoint.errors import ItemError, ModelError, NotFiniteError

CARD = "counterpoint.json"
KIND = "static-text"


class StaticQueries:
    """The query side of a static text encoder.

    folder: its model folder. card: what ``counterpoint.json`` of the folder holds. dim: width of an embedding.
    normalize: whether embeddings have unit length by default. prompts: role -> text put before the item.

    >>> from counterpoint.encoders import folder
    >>> from counterpoint.encoders.static import StaticText
    >>> encoder = StaticText.example()
    >>> folder.save(encoder, "model")
    >>> bool(np.allclose(StaticQueries.read("model").encode("a cat"), encoder.encode("a cat"), atol=1e-6))
    True
    """

    modality = "text"

    def __init__(self, folder: Path, card: Mapping[str, Any]) -> None:
        from tokenizers import Tokenizer

        self.folder, self.config = folder, card["config"]
        self.dim, self.normalize = int(self.config["dim"]), bool(card.get("normalize", True))
        self.prompts: dict[str, str] = dict(card.get("prompts") or {})
        self.default_prompt: str | None = card.get("default_prompt")
        check_tokens(folder / "tokenizer.json")
        with reading(folder / "tokenizer.json", "a tokenizer"):
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        said = read_object(folder / "tokenizer_config.json")
        pad = said.get("pad_token")
        pad = self._tokenizer.token_to_id(pad["content"] if isinstance(pad, dict) else pad) if pad else None
        self.pad: int = 0 if pad is None else pad
        self._left = said.get("truncation_side") == "left"

    @classmethod
    def read(cls, folder: Path | str) -> StaticQueries | None:
        """The reader of a model folder; None where it holds another kind of encoder. Raises `ModelError` where it holds
        a static one that is damaged."""
        folder = Path(folder)
        if not (folder / CARD).exists():
            return None
        card = read_object(folder / CARD)
        with reading(folder):
            return cls(folder, card) if card["kind"] == KIND else None

    def encode(
        self, items: str | Sequence[str], *, role: str | None = None, normalize: bool | None = None
    ) -> np.ndarray:
        """Embeddings ``(N, D)`` float32; of one text, ``(D,)``. role: whose prompt is put before each text (None: the
        default one, where there is one). normalize: unit length (None: the encoder's own default).

        items: a text, or N of them.
        """
        if isinstance(items, str):
            return self.encode([items], role=role, normalize=normalize)[0]  # type: ignore[no-any-return]
        of = f"the text encoder ({KIND}) of {self.folder}"
        check_role(role, known_roles(self.prompts, (), self.default_prompt), of)
        asked = self.default_prompt if role is None else role
        prompt = "" if asked is None else self.prompts.get(asked, "")
        for place, text in enumerate(items):
            if not isinstance(text, str):
                said = f"Texts are strings; item {{place}} is of the type {type(text).__name__}."
                raise ItemError(said, place, len(items))
        read = self._tokenizer.encode_batch([prompt + text for text in items], add_special_tokens=False)
        most = self.config["max_length"]
        tokens = [self._counted(one.ids[-most:] if self._left else one.ids[:most]) for one in read]
        distinct = sorted({token for counts in tokens for token in counts})
        table, place = self._rows(distinct), {token: i for i, token in enumerate(distinct)}
        z = np.zeros((len(items), self.dim), dtype=np.float32)
        for out, counts in zip(z, tokens):
            if counts:
                times = np.array(list(counts.values()), dtype=np.float32)
                out[:] = times @ table[[place[token] for token in counts]] / self._size(counts)
        if self.normalize if normalize is None else normalize:
            z /= np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
        if not np.isfinite(z).all():
            rows = tuple(np.flatnonzero(~np.isfinite(z).all(axis=1)).tolist())
            raise NotFiniteError(of.removeprefix("the "), rows, len(items))
        return z

    def _counted(self, ids: Sequence[int]) -> dict[int, float]:
        """What each distinct token of a text counts."""
        counts = Counter(token for token in ids if token != self.pad)
        if self.config["aggregate"] == "mean":
            return {token: float(c) for token, c in counts.items()}
        if self.config["aggregate"] == "set":
            return dict.fromkeys(counts, 1.0)
        k = self.config["saturation"]
        return {token: c * (1 + k) / (c + k) for token, c in counts.items()}

    def _size(self, counts: Mapping[int, float]) -> float:
        """What the sum over a text is divided by: its tokens, or its distinct ones."""
        return sum(counts.values()) if self.config["aggregate"] == "mean" else len(counts)

    def _rows(self, tokens: Sequence[int]) -> np.ndarray:
        """Weighted embeddings of these tokens, ``(len, D)``."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.folder / "model.safetensors", "np") as held:
                if self.config["aggregate"] == "mean":  # the weights are multiplied in
                    table = held.get_slice("embedding.weight")
                    found = [table[t : t + 1] for t in tokens]
                    return np.concatenate(found) if found else np.zeros((0, self.dim), np.float32)
                weights = held.get_tensor("weight")[list(tokens)]
            with safe_open(self.folder / "Table" / "model.safetensors", "np") as held:
                return held.get_tensor("linear.weight").T[list(tokens)] * weights[:, None]  # type: ignore[no-any-return]
        except (OSError, SafetensorError, IndexError, ValueError) as error:
            raise ModelError(f"The weights in {self.folder} cannot be read: {error}. Save the model again.") from error
