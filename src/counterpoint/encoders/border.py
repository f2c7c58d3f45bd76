"""The border of a model folder: what other libraries say of a damaged one becomes a sentence with the file in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from counterpoint.errors import CounterpointError, MissingExtra, ModelError

T = TypeVar("T")


@contextmanager
def reading(path: Path | str, what: str = "a model") -> Iterator[None]:
    """Whatever goes wrong inside becomes a `ModelError` that names ``path`` and the reason.

    path: the file or folder that is read. what: what it should hold. A `ModelError` that names a file in it, and a
    missing extra, pass as they are.
    """
    try:
        yield
    except MissingExtra:
        raise
    except ModelError as error:
        if str(path) in str(error):
            raise
        raise ModelError(f"{path}: {error}") from error
    except CounterpointError as error:
        raise ModelError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise ModelError(f"{path} cannot be read as {what}: {error.filename or error} is missing. {_REPAIR}") from error
    except Exception as error:
        raise ModelError(f"{path} cannot be read as {what} ({said(error)}). {_REPAIR}") from error
    except BaseException as error:  # a library in Rust that gives up: an exception that no `except Exception` sees
        if type(error).__name__ != "PanicException":
            raise
        raise ModelError(f"{path} cannot be read as {what} ({said(error)}). {_REPAIR}") from error


_REPAIR = "It is damaged, incomplete or of another kind: save the model again, or copy or download it again."


def said(error: BaseException) -> str:
    """What an error of another library says, in one line with its kind."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    line = " ".join(str(error).split())
    return f"{type(error).__name__}: {line[:300]}" if line else type(error).__name__


def read_json(path: Path) -> Any:
    """What a JSON file of a model folder holds; `ModelError` names the file and the place where it breaks off.

    path: of the file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path} cannot be read as JSON ({said(error)}). The model folder is damaged or incomplete: save the model "
            "again, or copy or download it again."
        ) from error


def read_object(path: Path) -> dict[str, Any]:
    """As `read_json`, of a file that holds one JSON object.

    path: of the file.
    """
    return expect(read_json(path), dict, str(path))


def expect(value: Any, kind: type[T], where: str) -> T:
    """The value, where it is of this type; `ModelError` says what stands in its place. where: the file and the key.

    value: from a file. kind: the type.
    """
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        names = {dict: "an object {...}", list: "a list [...]", str: "a string", int: "a whole number", bool: "a bool"}
        raise ModelError(
            f"{where} holds {shortened(value)}, where {names.get(kind, kind.__name__)} is expected. The model folder "
            "is damaged or of another kind: save the model again, or copy or download it again."
        )
    return value


def shortened(value: Any) -> str:
    """A value as it is written, cut to a length that can be read."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_tokens(path: Path) -> None:
    """Refuse a ``tokenizer.json`` that numbers a token far beyond how many there are: so long a table is made.

    path: of the file.
    """
    held = read_object(path)
    model, added = held.get("model"), held.get("added_tokens")
    known = model.get("vocab") if isinstance(model, dict) else None
    ids = list(known.values()) if isinstance(known, dict) else []
    ids += [token.get("id") for token in added if isinstance(token, dict)] if isinstance(added, list) else []
    most = 4 * len(known or ()) + 1_000_000
    if wrong := [i for i in ids if not isinstance(i, int) or isinstance(i, bool) or not 0 <= i <= most]:
        raise ModelError(
            f"{path} gives a token the number {shortened(wrong[0])}, and knows {len(known or ()):,}. It is damaged: "
            "save the model again, or copy or download it again."
        )
