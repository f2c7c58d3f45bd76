"""`export`: an encoder in other libraries' formats, compared with what it was before it is called done."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from counterpoint.encoders import folder
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.export import onnx
from counterpoint.encoders.modules import LISTING
from counterpoint.encoders.truncate import truncated
from counterpoint.errors import ConfigError, MissingExtra, ModelError, need
from counterpoint.modalities.text import TEXT
from counterpoint.workflow.models import load

TEXTS = ["What is counterpoint?", "Voices that are independent in rhythm and in contour, and sound well together."]
TOLERANCE = 1e-5


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The folder or file that was written. worst: by how much its embeddings differ at most from the encoder's; None:
    they were not compared, as sentence-transformers is not installed."""

    out: Path
    worst: float | None


def export(
    model: Path | str,
    *,
    to: Literal["sentence-transformers", "onnx"],
    out: Path | str,
    stream: str | None = None,
    layers: int | None = None,
    dim: int | None = None,
) -> Exported:
    """Write the encoder of a model in another format; the function behind ``counterpoint export``.

    model: a run folder or a model folder. to: ``sentence-transformers``, a folder that `transformers.AutoModel` reads
    as well, or ``onnx``, a file. out: where to write. stream: which tower, where the model has several. layers, dim:
    keep the first so many layers of a transformer of text and the first so many dimensions.

    Raises `ConfigError` for what cannot be written so, `ModelError` where the embeddings differ.

        counterpoint.export("runs/mine", to="onnx", out="mine.onnx").worst
    """
    encoder, out = load(model, stream), Path(out)
    if layers is not None or dim is not None:
        encoder = truncated(encoder, layers=layers, dim=dim)
    if to == "sentence-transformers":
        return Exported(out=out, worst=sentence_transformers(encoder, out))
    if to != "onnx":
        raise ConfigError(f"to={to!r}: type sentence-transformers or onnx.")
    if out.is_dir() or out.suffix != ".onnx":
        raise ConfigError(f"--out {out}: ONNX is one file; end its name with .onnx")
    return Exported(out=out, worst=onnx(encoder, out))


def sentence_transformers(encoder: Encoder, out: Path) -> float | None:
    """Write the folder and, where the library is installed, compare what it makes of it with the encoder: by how much
    embeddings differ at most."""
    if encoder.modality != TEXT:
        raise ConfigError(
            f"A sentence-transformers folder holds an encoder of text; this one encodes {encoder.modality}s. "
            "Type: --to onnx --out model.onnx"
        )
    folder.save(encoder, out)
    if not (out / LISTING).exists():
        shutil.rmtree(out)
        raise ModelError(
            "sentence-transformers has no modules that give the embeddings of this encoder. Type: --to onnx"
        )
    try:
        library = need("sentence_transformers", "export")
    except MissingExtra:
        return None
    theirs = library.SentenceTransformer(str(out), device="cpu").encode(TEXTS, show_progress_bar=False)
    worst = float(np.abs(theirs - encoder.encode(TEXTS)).max())
    if not worst <= TOLERANCE:
        raise ModelError(
            f"{out} was written, but sentence-transformers makes embeddings of it that differ by up to {worst:.1e}; at "
            f"most {TOLERANCE} is allowed. Do not use it, and please report this."
        )
    return worst
