"""Which method suits the rows, and with which settings."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping
from typing import Any

from counterpoint.data.schema import RowSet, Schema
from counterpoint.data.stream import Stream
from counterpoint.errors import ConfigError
from counterpoint.methods.base import Method, discover, find
from counterpoint.modalities import base as modalities
from counterpoint.workflow.settings import typed
from counterpoint.workflow.words import KINDS, needs


def choose(schema: Schema, rows: RowSet | Stream, named: str) -> tuple[type[Method], str]:
    """The method for rows of this shape (``auto``) or the one named, and the sentence that says why."""
    if named != "auto":
        cls = find(named)
        check(cls, schema)
        return cls, f"Method {named} ({cls.spec.title}), as asked; {holds(schema)}."
    cls, more = usual(schema, rows)
    return cls, f"Method {cls.spec.name} ({cls.spec.title}), because {holds(schema)}.{more}"


def usual(schema: Schema, rows: RowSet | Stream) -> tuple[type[Method], str]:
    """The method that says it is the first choice for such rows, and the sentence that it adds where their length
    decided. Raises `ConfigError`, listing those that would take them, where there is none."""
    modality = "+".join(sorted(set(schema.modalities.values())))
    found = [(cls, u) for cls in discover().values() if (u := cls.spec.first_for(schema.kind, modality)) is not None]
    found.sort(key=lambda pair: pair[1].otherwise)
    asked = any(one.because for _, one in found)
    words = statistics.median(len(t.split()) for t in rows.texts(1000)) if asked else 0.0
    for cls, one in found:
        if one.least <= words < one.below:
            return cls, f" {one.because.format(words=words)}".rstrip()
    fitting = [n for n, cls in discover().items() if fits(cls, schema)]
    what = f"Name one of: {', '.join(fitting)} (--method NAME)." if fitting else "Name other columns with --columns."
    raise ConfigError(f"No method is usual for such rows: {holds(schema)}. {what}")


def fits(cls: type[Method], schema: Schema) -> bool:
    """Whether a method learns from rows of this kind and these modalities."""
    return schema.kind in cls.spec.needs and set(schema.modalities.values()) <= set(cls.spec.modalities)


def holds(schema: Schema) -> str:
    """What the rows hold and what decided it: ``the rows hold pairs: q and a are names of the two sides of a pair``."""
    why = schema.why.removeprefix(f"{schema.kind}: ").rstrip(".")
    what = modalities.of(next(iter(schema.modalities.values()))).many if schema.kind == "items" else KINDS[schema.kind]
    return f"the rows hold {what}{', ' if why.startswith('as named') else ': '}{why}"


def check(cls: type[Method], schema: Schema) -> None:
    """Refuse rows a method cannot learn from, saying what it needs."""
    spec, modalities = cls.spec, set(schema.modalities.values())
    if schema.kind not in spec.needs:
        raise ConfigError(
            f"The method {spec.name} needs {' or '.join(needs(spec))}, but {holds(schema)}. Leave "
            "--method out and the columns decide, or say which column plays which part with --columns."
        )
    if not modalities <= set(spec.modalities):
        raise ConfigError(
            f"The method {spec.name} learns from {' and '.join(spec.modalities)}; these rows hold "
            f"{' and '.join(sorted(modalities))}. Leave --method out and the columns decide."
        )


def configured(cls: type[Method], base: Any, given: Mapping[str, Any]) -> Any:
    """The method's Config with settings applied; text is read as what the setting holds."""
    values = typed(cls.Config, given, of=f"the method {cls.spec.name}", option="--set {}=VALUE")
    return dataclasses.replace(base, **values)
