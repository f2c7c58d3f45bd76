"""Settings given as text, JSON or Python values, as the fields of a dataclass want them."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

from counterpoint.errors import ConfigError


def typed(cls: type, given: Mapping[str, Any], *, of: str, option: str) -> dict[str, Any]:
    """The values with the types of the fields of ``cls``.

    Text is read as what the field holds (``"1e-3"`` for a float, ``"[0.9, 0.98]"`` for a tuple). of: what has these
    settings, and option: how one is typed, ``{}`` being ``NAME``; both for errors. Raises `ConfigError` for a name that
    is no field and for a value of another kind.
    """
    known = {f.name for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    out = {}
    for name, value in given.items():
        if name not in known:
            raise ConfigError(f"{of[:1].upper()}{of[1:]} has no setting {name!r}. It has: {', '.join(sorted(known))}.")
        try:
            out[name] = _as(hints[name], value)
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"The setting {name} of {of} is {kind(hints[name])}; {value!r} was given. "
                f"Type for instance: {option.format(name)}"
            ) from error
    return out


def kind(hint: Any) -> str:
    """A type in words."""
    arguments = get_args(hint)
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join("none" if a is type(None) else kind(a) for a in arguments)
    if get_origin(hint) is tuple:
        return "a list of numbers" if set(arguments) <= {int, float, ...} else "a list"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return words.get(hint, "set in Python only, not on the command line")


def _as(hint: Any, value: Any) -> Any:
    """The value as the type; ValueError or TypeError where it is none."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if type(None) in arguments and value in (None, "null", "none", "None"):
            return None
        return _as(next(a for a in arguments if a is not type(None)), value)
    if origin is Literal:
        return next(a for a in arguments if str(a) == str(value)) if str(value) in map(str, arguments) else _no()
    if hint is str:
        return value if isinstance(value, str) else _no()
    if hint is float:
        return float(value) if not isinstance(value, bool) else _no()
    if isinstance(value, str):
        value = json.loads(value)
    if hint is bool:
        return value if isinstance(value, bool) else _no()
    if hint is int:
        whole = isinstance(value, int | float) and not isinstance(value, bool) and value == int(value)
        return int(value) if whole else _no()
    if origin is tuple:
        items = [value] if not isinstance(value, list | tuple) else list(value)
        each = [arguments[0]] * len(items) if arguments[-1] is ... else list(arguments)
        return tuple(_as(a, item) for a, item in zip(each, items, strict=True))
    if hint is Any:
        return value
    if origin is dict:
        return {str(k): _as(arguments[1], v) for k, v in value.items()} if isinstance(value, Mapping) else _no()
    return value if isinstance(value, hint) else _no()


def _no() -> Any:
    raise ValueError
