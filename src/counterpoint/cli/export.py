"""`counterpoint export`: the encoder in other libraries' formats."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tyro.conf import Positional


def export(
    model: Positional[Path],
    /,
    *,
    to: Literal["sentence-transformers", "onnx"],
    out: Path,
    stream: str | None = None,
) -> None:
    """Write the encoder as a sentence-transformers folder or as an ONNX file, checked to give the same embeddings.

    Example: counterpoint export runs/mine --to onnx --out mine.onnx

    Args:
        model: a run folder or a model folder.
        to: sentence-transformers (a folder, which `transformers.AutoModel` reads as well) or onnx (a file).
        out: where to write.
        stream: which tower, where the model has several.
    """
    from counterpoint.encoders import export as exporters
    from counterpoint.encoders import folder
    from counterpoint.workflow.models import load

    encoder = load(model, stream)
    if to == "onnx":
        exporters.onnx(encoder, out)
    else:
        folder.save(encoder, out)
    print(out)
