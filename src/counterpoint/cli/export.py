"""`counterpoint export`: the encoder in other libraries' formats."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from counterpoint.cli.options import Model, Name
from counterpoint.modalities.text import TEXT

if TYPE_CHECKING:
    from counterpoint.encoders.base import Encoder

TEXTS = ["What is counterpoint?", "Voices that are independent in rhythm and in contour, and sound well together."]
TOLERANCE = 1e-5


def export(
    model: Model,
    /,
    *,
    to: Literal["sentence-transformers", "onnx"],
    out: Annotated[Path, arg(metavar="PATH")],
    stream: Name = None,
    layers: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None,
    dim: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None,
) -> None:
    """Write the encoder as a sentence-transformers folder or as an ONNX file, checked to give the same embeddings.

    Example: counterpoint export runs/mine --to onnx --out mine.onnx

    A smaller one of it, for which `fit --method matryoshka-2d` trains; encode, eval and index read the folder too:
    counterpoint export runs/mine --to sentence-transformers --layers 3 --dim 64 --out small

    Args:
        model: a run folder or a model folder.
        to: sentence-transformers (a folder, which `transformers.AutoModel` reads as well) or onnx (a file).
        out: where to write.
        stream: which tower, text or image, where the model has both.
        layers: keep the first so many layers of a transformer of text, and leave the others out.
        dim: keep the first so many dimensions of an embedding, of unit length again where the model gives unit length.
    """
    from counterpoint.encoders.export import onnx
    from counterpoint.encoders.truncate import truncated
    from counterpoint.errors import ConfigError
    from counterpoint.workflow.models import load

    encoder = load(model, stream)
    if layers is not None or dim is not None:
        encoder = truncated(encoder, layers=layers, dim=dim)
    if to == "sentence-transformers":
        sentence_transformers(encoder, out)
        return
    if out.is_dir() or out.suffix != ".onnx":
        raise ConfigError(f"--out {out}: ONNX is one file; end its name with .onnx")
    worst = onnx(encoder, out)
    print(f"{out}: embeddings differ by at most {worst:.0e} from the encoder's.")


def sentence_transformers(encoder: Encoder, out: Path) -> None:
    """Write the folder and, where the library is installed, compare what it makes of it with the encoder."""
    import numpy as np

    from counterpoint.encoders import folder
    from counterpoint.encoders.layout import read_modules
    from counterpoint.errors import ConfigError, MissingExtra, ModelError, need

    if encoder.modality != TEXT:
        raise ConfigError(
            f"A sentence-transformers folder holds an encoder of text; this one encodes {encoder.modality}s. "
            "Type: --to onnx --out model.onnx"
        )
    folder.save(encoder, out)
    if not read_modules(out):
        shutil.rmtree(out)
        raise ModelError(
            "sentence-transformers has no modules that give the embeddings of this encoder. Type: --to onnx"
        )
    try:
        library = need("sentence_transformers", "export")
    except MissingExtra:
        print(f"{out}: written. It was not compared, as sentence-transformers is not installed.")
        return
    theirs = library.SentenceTransformer(str(out), device="cpu").encode(TEXTS, show_progress_bar=False)
    worst = float(np.abs(theirs - encoder.encode(TEXTS)).max())
    if not worst <= TOLERANCE:
        raise ModelError(
            f"{out} was written, but sentence-transformers makes embeddings of it that differ by up to {worst:.1e}; at "
            f"most {TOLERANCE} is allowed. Do not use it, and please report this."
        )
    print(f"{out}: sentence-transformers gives the same embeddings (largest difference {worst:.0e}).")
