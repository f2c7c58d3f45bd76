"""Which method suits the rows, and with which settings."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Mapping
from typing import Any

from counterpoint.data.rows import Rows
from counterpoint.data.schema import Schema
from counterpoint.data.stream import Stream
from counterpoint.errors import ConfigError
from counterpoint.methods.base import Method

LONG = 60
"""Median words from which texts count as documents: their parts can then be contrasted with each other."""


def choose(schema: Schema, rows: Rows | Stream) -> tuple[str, str]:
    """The method for rows of this shape, and the sentence that says why."""
    if schema.kind == "texts":
        words = statistics.median(len(t.split()) for t in rows.texts(1000))
        if words >= LONG:
            return (
                "contriever",
                f"{schema.why} The texts are long (median {words:.0f} words): their crops are contrasted.",
            )
        return (
            "simcse",
            f"{schema.why} The texts are short (median {words:.0f} words): two dropout draws are contrasted.",
        )
    name = {
        "pairs": "in-batch",
        "scored": "graded",
        "labelled": "supcon",
        "images": "directpred",
        "towers": "two-tower",
    }[schema.kind]
    return name, schema.why


def check(cls: type[Method], schema: Schema) -> None:
    """Refuse rows a method cannot learn from, saying what it needs."""
    spec, modalities = cls.spec, set(schema.modalities.values())
    if schema.kind not in spec.needs:
        raise ConfigError(
            f"The method {spec.name} needs {' or '.join(spec.needs)}; these rows hold {schema.kind} ({schema.why}) "
            "Leave --method out and the columns decide, or say which column plays which part with --columns."
        )
    if not modalities <= set(spec.modalities):
        raise ConfigError(
            f"The method {spec.name} learns from {' and '.join(spec.modalities)}; "
            f"these rows hold {' and '.join(sorted(modalities))}."
        )


def configured(cls: type[Method], base: Any, given: Mapping[str, str]) -> Any:
    """The method's Config with ``KEY=VALUE`` settings applied; values are read as JSON, else as text."""
    known = {f.name: f for f in dataclasses.fields(cls.Config)}
    values: dict[str, Any] = {}
    for key, text in given.items():
        if key not in known:
            raise ConfigError(f"The method {cls.spec.name} has no setting {key!r}. It has: {', '.join(known)}.")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        present = getattr(base, key)
        value = tuple(value) if isinstance(value, list) else value
        if isinstance(present, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not type(present):
            raise ConfigError(
                f"The setting {key} of {cls.spec.name} is of the kind {type(present).__name__} (now {present!r}); "
                f"{text!r} was given. Type for instance: --set {key}={json.dumps(present)}"
            )
        values[key] = value
    return dataclasses.replace(base, **values)
