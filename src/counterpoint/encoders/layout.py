"""The files of a model folder: weights without pickles, configurations as JSON; and a folder that declares more than
its weights hold is refused before memory is given to it."""

from __future__ import annotations

import json
import math
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from counterpoint.encoders.border import expect, said, shortened
from counterpoint.errors import ModelError

LARGEST = 10**8
"""Of a whole number in a configuration. What is larger is damage: it would be a list of so many layers."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One module of sentence-transformers' ``modules.json``. type: its class there. path: its folder, '' = the root."""

    type: str
    path: str


# --- what is declared --------------------------------------------------------------------------------------------


class _Bounded(TorchDispatchMode):
    """Counts what torch allocates by size, before it does."""

    def __init__(self, path: Path, elements: int, calls: int) -> None:
        super().__init__()
        self.path, self.elements, self.calls = path, elements, calls

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        size = args[0] if args and isinstance(args[0], list | tuple) else None
        if size is not None and all(isinstance(n, int) for n in size):
            self.elements -= math.prod(size)
            self.calls -= 1
            if min(self.elements, self.calls) < 0:
                raise ModelError(
                    f"{self.path} declares an encoder that is far larger than its weights: its configuration and its "
                    "weights do not belong together. Save the model again, or copy or download it again."
                )
        return func(*args, **(kwargs or {}))


@contextmanager
def bounded(folder: Path) -> Iterator[None]:
    """Inside, an encoder is made whose weights the folder holds: far more than these is never allocated.

    Raises `ModelError` instead, since otherwise one digit too many in a configuration takes all memory of the machine.
    """
    found = [shape for path in folder.rglob("*.safetensors") for shape in shapes(path).values()]
    # An encoder is made fresh and then filled, perhaps with tables of positions and copies that are not saved.
    with _Bounded(folder, 8 * sum(map(math.prod, found)) + 2**27, 16 * len(found) + 4_000):
        yield


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of each tensor of a safetensors file, from its header alone.

    path: of the file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  # no mapping
    except Exception as error:
        raise _unreadable(path, error) from error


# --- files ---------------------------------------------------------------------------------------------------


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON to the path."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Tensors to safetensors; those that share memory are written apart.

    path: of the file. weights: name -> tensor.
    """
    save_file({k: v.detach().cpu().clone().contiguous() for k, v in weights.items()}, path, {"format": "pt"})


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name.

    path: of the file.
    """
    try:
        return load_file(path)
    except Exception as error:  # of its own kind, of the operating system's, of torch's for types it does not know
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ModelError:
    return ModelError(
        f"The weights {path} cannot be read: {said(error)}. The file is missing, damaged or incomplete: save the model "
        "again, or copy or download it again."
    )


def like(folder: Path, model: Path) -> None:
    """Give all files of a folder the permissions of one of them, ``model``: weights are otherwise for their owner
    alone, whatever the user's umask says."""
    mode = model.stat().st_mode & 0o777
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_mode & 0o777 != mode:
            path.chmod(mode)


def refuse_pickles(folder: Path) -> None:
    """A folder of weights that only pickle can read is refused: loading a pickle runs the code inside it."""
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt") for p in folder.glob(pattern))
    if pickles:
        raise ModelError(
            f"{folder} holds its weights as a pickle ({', '.join(pickles)}), and loading a pickle runs the code in "
            "it, so Counterpoint never does. If you trust the file, convert it where that is safe and load the result: "
            'python -c "from transformers import AutoModel; '
            f'AutoModel.from_pretrained({str(folder)!r}, use_safetensors=False).save_pretrained({str(folder)!r})"'
        )
    raise ModelError(f"{folder} holds no weights: expected model.safetensors.")


# --- configurations --------------------------------------------------------------------------------------------


def revive(cls: type, values: Mapping[str, Any]) -> Any:
    """A configuration from JSON: lists become tuples where the dataclass says so; unknown fields are an error, and so
    are values of another type than the field's.

    cls: the dataclass. values: field -> value.
    """
    values = expect(values, dict, f"The model's {cls.__name__}")
    known, hints = {f.name for f in fields(cls)}, get_type_hints(cls)
    if unknown := sorted(set(values) - known):
        raise ModelError(
            f"The model's {cls.__name__} holds {', '.join(map(repr, unknown))}, which this version of Counterpoint "
            "does not know. The folder was written by another version: upgrade Counterpoint."
        )
    for name, value in values.items():
        if not _fits(value, hints[name]):
            raise ModelError(
                f"The model's {cls.__name__} holds {name}={shortened(value)}, which cannot be: the model folder is "
                "damaged. Save the model again, or copy or download it again."
            )
    return cls(**{k: tuple(v) if get_origin(hints[k]) is tuple else v for k, v in values.items()})


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value from JSON can be that of a field; what is not known of types is allowed."""
    origin, given = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in given and type(value) in map(type, given)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in given)
    if origin is tuple:
        inner = given[:1] * len(value) if isinstance(value, list | tuple) and given[1:] == (...,) else given
        return isinstance(value, list | tuple) and len(value) == len(inner) and all(map(_fits, value, inner))
    if origin is list:
        return isinstance(value, list) and all(_fits(one, given[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(k, given[0]) and _fits(v, given[1]) for k, v in value.items())
    if hint is float:
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e30
        )  # no NaN, no infinity
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST
    if hint in (bool, str):
        return isinstance(value, hint)
    return value is None if hint is type(None) else True
