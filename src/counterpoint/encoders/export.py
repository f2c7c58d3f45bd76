"""ONNX files: the encoder with its pooling and normalisation, checked against the original before they count."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from counterpoint.data.batch import Data, take
from counterpoint.encoders.base import Encoder, Traced
from counterpoint.errors import ModelError, need
from counterpoint.files import whole_file

TOLERANCE = 1e-5


class Plain(nn.Module):
    """An encoder as one traceable function of tensors, see `Traced`; of unit length where it asks for that.

    encoder: to be written. traced: how it is seen.
    """

    def __init__(self, encoder: Encoder, traced: Traced) -> None:
        super().__init__()
        self.encoder, self.traced = encoder, traced

    def forward(self, *inputs: Tensor) -> Tensor:
        """Embeddings ``(N, D)`` from the tensors that ``traced`` names."""
        z = self.traced.forward(*inputs)
        return nn.functional.normalize(z, dim=-1) if self.encoder.normalize else z


def onnx(encoder: Encoder, path: Path | str, *, items: Sequence[Any] | None = None, opset: int = 18) -> float:
    """Write an ONNX file that takes any number of items (and texts of any length); returns the largest difference of
    its embeddings from those of `encode`.

    The file appears only after `onnxruntime` has given the same embeddings to 1e-5, at other shapes than it was traced
    with; otherwise a ModelError names the difference. Beside it, text encoders leave ``NAME.tokenizer.json``.
    items: examples to trace and check with (None: those that the encoder has). opset: of ONNX. Raises `ModelError` for
    an encoder that has no ONNX form, which says why.

    path: of the file.
    """
    traced = encoder.traced()
    need("onnxscript", "export")
    runtime = need("onnxruntime", "export")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    was_training, device = encoder.training, encoder.device
    encoder.eval().cpu()
    try:
        plain = Plain(encoder, traced).eval()
        data = _example(encoder, traced, items)
        with whole_file(path) as aside:
            _trace(plain, data, aside, opset)
            session = runtime.InferenceSession(str(aside), providers=["CPUExecutionProvider"])
            worst = max(_difference(session, plain, part) for part in (data, take(data, slice(0, 1))))
            if not worst <= TOLERANCE:  # also where it is not a number
                raise ModelError(
                    f"The ONNX file gives embeddings that differ by up to {worst:.1e} from the encoder's (at most "
                    f"{TOLERANCE} is allowed), so it was not written. Try another opset than {opset}."
                )
    finally:
        encoder.to(device).train(was_training)
    if traced.beside is not None:
        traced.beside(path)
    return worst


def _example(encoder: Encoder, traced: Traced, items: Sequence[Any] | None) -> Data:
    data = traced.example if items is None else encoder.collate(list(items))
    if data is None:
        raise ModelError(
            f"To export a {type(encoder).__name__}, give `items`: a few examples to trace and check it with."
        )
    return data


def _trace(plain: Plain, data: Data, path: Path, opset: int) -> None:
    inputs, free = plain.traced.inputs(data), plain.traced.free
    axes = {axis: torch.export.Dim(name, min=1) for axis, name in free.items()}
    with torch.no_grad(), _quiet("torch.onnx"):
        program = torch.onnx.export(
            plain,
            inputs,
            input_names=plain.traced.names,
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
    inputs = plain.traced.inputs(data)
    with torch.inference_mode():
        expected = plain.encoder(data)
        expected = nn.functional.normalize(expected, dim=-1) if plain.encoder.normalize else expected
    (given,) = session.run(None, {name: x.numpy() for name, x in zip(plain.traced.names, inputs)})
    return float(np.abs(given - expected.numpy()).max())
