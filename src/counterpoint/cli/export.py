"""`counterpoint export`: the encoder in other libraries' formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from counterpoint.cli.options import Model, Name


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
    from counterpoint.terminal import say
    from counterpoint.workflow.export import export as run

    found = run(model, to=to, out=out, stream=stream, layers=layers, dim=dim)
    if found.worst is None:
        say(f"{out}: written. It was not compared, as sentence-transformers is not installed.")
    elif to == "onnx":
        say(f"{out}: embeddings differ by at most {found.worst:.0e} from the encoder's.")
    else:
        say(f"{out}: sentence-transformers gives the same embeddings (largest difference {found.worst:.0e}).")
