"""Options that several verbs share, and ``KEY=VALUE`` words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

from tyro.conf import OmitArgPrefixes, Positional, arg

from counterpoint.data.files.options import Reading
from counterpoint.errors import ConfigError

Model: TypeAlias = Annotated[Positional[Path], arg(metavar="MODEL", help_behavior_hint="")]
Data: TypeAlias = Annotated[Positional[tuple[str, ...]], arg(metavar="DATA...", help_behavior_hint="")]
Sources: TypeAlias = Annotated[tuple[str, ...], arg(metavar="DATA...", help_behavior_hint="")]
Pairs: TypeAlias = Annotated[tuple[str, ...], arg(metavar="KEY=VALUE...", help_behavior_hint="")]
Names: TypeAlias = Annotated[tuple[str, ...], arg(metavar="NAME...", help_behavior_hint="")]
Name: TypeAlias = Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")]
Number: TypeAlias = Annotated[int | None, arg(metavar="N", help_behavior_hint="")]
File: TypeAlias = Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class Files:
    """How files are read, where that is not found by looking at them."""

    separator: Name = None
    """What stands between the fields of a csv or tsv: ',' ';' '|' or tab (none: it is found)."""
    encoding: Name = None
    """Of text files, for instance cp1252 or utf-16 (none: it is found)."""
    no_header: bool = False
    """The first line of a csv is a row: its columns are called column_1, column_2 ..."""
    files_anywhere: bool = False
    """A table may name images and recordings outside of its own folder."""

    def reading(self) -> Reading:
        return Reading(
            separator=self.separator,
            encoding=self.encoding,
            header=False if self.no_header else None,
            anywhere=self.files_anywhere,
        )


AS_FOUND = Files()
Read: TypeAlias = OmitArgPrefixes[Files]


def key_values(words: Sequence[str], option: str) -> dict[str, str]:
    """``("a=1", "b=x")`` to ``{"a": "1", "b": "x"}``."""
    found: dict[str, str] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not key or not value:
            raise ConfigError(
                f"{option} takes words KEY=VALUE; {word!r} is none. Type for instance: {option} name=value"
            )
        found[key] = value
    return found


def columns(words: Sequence[str]) -> dict[str, str | list[str]]:
    """``("anchor=q,positive=p", "negatives=n1", "negatives=n2")`` to part -> column, or columns where given twice."""
    found: dict[str, str | list[str]] = {}
    for word in [part for w in words for part in w.split(",") if part]:
        ((role, column),) = key_values([word], "--columns").items()
        if role in found:
            held = found[role]
            found[role] = [*(held if isinstance(held, list) else [held]), column]
        else:
            found[role] = column
    return found
