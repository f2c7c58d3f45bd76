"""ONNX files: the encoder with its pooling and normalisation, checked against the original before they count."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from counterpoint import whole
from counterpoint.data.audio import Recording
from counterpoint.data.batch import Data, take
from counterpoint.encoders.audio import AudioTransformer
from counterpoint.encoders.bags import BagEncoder
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.causal import CausalLM
from counterpoint.encoders.heads import Projected
from counterpoint.encoders.kmers import KmerBag
from counterpoint.encoders.pooling import pool
from counterpoint.encoders.series import SeriesEncoder
from counterpoint.encoders.staged import Staged, innermost
from counterpoint.encoders.static import StaticText
from counterpoint.encoders.text import TextTransformer
from counterpoint.errors import ModelError, need

TOLERANCE = 1e-5
_TEXTS = ("What is counterpoint?", "", "Voices that are independent in rhythm and in contour, and sound well together.")


class Plain(nn.Module):
    """An encoder as one traceable function of tensors: no sorting, no packing, no dropout; unit length where it asks.

    Inputs are those of `names`, in that order.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.inner = innermost(encoder)

    @property
    def names(self) -> list[str]:
        if isinstance(self.inner, StaticText):
            return ["input_ids", "counts"] if self.inner.config.aggregate == "saturating" else ["input_ids"]
        if isinstance(self.inner, AudioTransformer):
            return ["frames", "attention_mask"]
        if isinstance(self.inner, KmerBag):
            return ["words"]
        texts = isinstance(self.inner, TextTransformer | CausalLM)
        return ["input_ids", "attention_mask"] if texts else ["input"]

    def inputs(self, data: Data) -> tuple[Tensor, ...]:
        return (data,) if isinstance(data, Tensor) else tuple(data[name] for name in self.names)

    def forward(self, *inputs: Tensor) -> Tensor:
        z = self._embed(self.encoder, inputs)
        return nn.functional.normalize(z, dim=-1) if self.encoder.normalize else z

    def _embed(self, encoder: Encoder, inputs: tuple[Tensor, ...]) -> Tensor:
        if isinstance(encoder, Projected):
            return encoder.projection(self._embed(encoder.encoder, inputs))
        if isinstance(encoder, Staged):
            return encoder.passed(self._embed(encoder.encoder, inputs))
        if isinstance(encoder, TextTransformer):
            ids, mask = inputs
            hidden = encoder.transformer(input_ids=ids, attention_mask=mask).last_hidden_state
            return encoder.pool(hidden, mask)
        if isinstance(encoder, CausalLM):
            ids, mask = inputs
            out = encoder.transformer.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
            return pool(out.last_hidden_state, mask, mode=encoder.config.pooling)
        if isinstance(encoder, StaticText | KmerBag):
            tokens, mask = encoder.tokens(dict(zip(self.names, inputs)))
            return pool(tokens, mask, mode="mean")
        if isinstance(encoder, AudioTransformer):
            return encoder(dict(zip(self.names, inputs)))
        return encoder(inputs[0])


def onnx(encoder: Encoder, path: Path | str, *, items: Sequence[Any] | None = None, opset: int = 18) -> float:
    """Write an ONNX file whose batch (and, for text, length) is free; returns the largest difference from `encode`.

    The file appears only after `onnxruntime` has given the same embeddings to 1e-5, at other shapes than it was traced
    with; otherwise a ModelError names the difference. Beside it, text encoders leave ``NAME.tokenizer.json``.
    items: examples to trace and check with (None: three texts; for other modalities, noise).
    """
    if encoder.modality == "graph":
        raise ModelError(
            "An encoder of graphs has no ONNX form: it reads a whole graph at once. Load its folder with "
            "counterpoint.encoders.folder.load instead."
        )
    if "table" in encoder.modality:
        raise ModelError(
            "An encoder of table rows has no ONNX form: it reads raw cells, some of which may be missing. Load its "
            "folder with counterpoint.encoders.folder.load instead."
        )
    if isinstance(encoder, BagEncoder):
        raise ModelError(
            "An encoder of bags has no ONNX form: bags have any number of instances. Load its folder with "
            "counterpoint.encoders.folder.load, or export the encoder of its instances (`.encoder`)."
        )
    if not getattr(innermost(encoder).config, "include_prompt", True) and any(encoder.prompts.values()):
        raise ModelError(
            "This encoder leaves its prompts out of the pooling, which an ONNX file of token ids cannot tell from the "
            "text. Type: --to sentence-transformers"
        )
    need("onnxscript", "export")
    runtime = need("onnxruntime", "export")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    was_training, device = encoder.training, encoder.device
    encoder.eval().cpu()
    try:
        plain = Plain(encoder).eval()
        data = _example(encoder, items)
        with whole.file(path) as aside:
            _trace(plain, plain.inputs(data), aside, opset)
            session = runtime.InferenceSession(str(aside), providers=["CPUExecutionProvider"])
            worst = max(_difference(session, plain, part) for part in (data, take(data, slice(0, 1))))
            if not worst <= TOLERANCE:  # also where it is not a number
                raise ModelError(
                    f"The ONNX file gives embeddings that differ by up to {worst:.1e} from the encoder's (at most "
                    f"{TOLERANCE} is allowed), so it was not written. Try another opset than {opset}."
                )
    finally:
        encoder.to(device).train(was_training)
    if isinstance(plain.inner, TextTransformer | StaticText | CausalLM):
        _tokenizer(plain.inner, path.with_suffix(".tokenizer.json"))
    return worst


def _example(encoder: Encoder, items: Sequence[Any] | None) -> Data:
    if items is not None:
        return encoder.collate(list(items))
    if encoder.modality == "text":
        return encoder.collate(list(_TEXTS))
    if encoder.modality == "dna":
        return encoder.collate(["ACGTTGCAACTTGACCATTG" * 4, "GATTACA", "TTTTCCNCAAGG"])
    if encoder.modality == "image":
        inner: Any = innermost(encoder)
        shape = (3, inner.config.channels, inner.config.size, inner.config.size)
        return torch.rand(shape, generator=torch.Generator().manual_seed(0))
    if encoder.modality == "vector":
        return torch.randn(3, encoder.config.features, generator=torch.Generator().manual_seed(0))
    if isinstance(encoder, SeriesEncoder):  # standardised windows, as `collate` gives them
        shape = (3, encoder.config.length or 32, encoder.config.channels)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if encoder.modality == "audio":
        rng = np.random.default_rng(0)
        noises = (rng.normal(size=n).astype(np.float32) for n in (16_000, 5_000, 9_000))
        return encoder.collate([Recording(x, 16_000) for x in noises])
    raise ModelError(
        f"To export an encoder of {encoder.modality}, give `items`: a few examples to trace and check it with."
    )


def _trace(plain: Plain, inputs: tuple[Tensor, ...], path: Path, opset: int) -> None:
    batch = torch.export.Dim("batch", min=1)
    # Texts and recordings have a free length too; images keep their size.
    free = inputs[0].ndim == 2 or isinstance(plain.inner, AudioTransformer)
    axes = {0: batch, 1: torch.export.Dim("length", min=1)} if free else {0: batch}
    with torch.no_grad(), _quiet("torch.onnx"):
        program = torch.onnx.export(
            plain,
            inputs,
            input_names=plain.names,
            output_names=["embeddings"],
            dynamic_shapes={"inputs": tuple(axes for _ in inputs)},
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(str(path))


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Without the exporter's remarks on packages that are not installed, names of axes and its own deprecations."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _difference(session: Any, plain: Plain, data: Data) -> float:
    inputs = plain.inputs(data)
    with torch.inference_mode():
        expected = plain.encoder(data)
        expected = nn.functional.normalize(expected, dim=-1) if plain.encoder.normalize else expected
    (given,) = session.run(None, {name: x.numpy() for name, x in zip(plain.names, inputs)})
    return float(np.abs(given - expected.numpy()).max())


def _tokenizer(encoder: TextTransformer | StaticText | CausalLM, path: Path) -> None:
    """The tokenizer alone, with the encoder's truncation and special tokens, for runtimes without transformers."""
    said = json.loads(encoder.tokenizer.backend_tokenizer.to_str())
    said["truncation"] = {
        "direction": "Left" if encoder._left else "Right",
        "max_length": encoder.max_length,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    if not encoder.special:
        said["post_processor"] = None
    elif encoder.asked is not None:
        said["post_processor"] = encoder.around_as_json()
    whole.text(path, json.dumps(said, ensure_ascii=False))
