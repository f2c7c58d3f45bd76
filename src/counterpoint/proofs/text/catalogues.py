"""Messages of one program in several languages, in one order: documents side by side that nobody has paired.

Django (BSD-3-Clause) ships its translations as gettext catalogues; those of the languages asked for are read from the
installed package.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from counterpoint.errors import need

_STRING = re.compile(r'^(msgctxt|msgid|msgstr(?:\[0\])?|msgid_plural|msgstr\[\d\])\s+(".*)$|^(".*)$')

Key = tuple[str, str, str]
"""Catalogue, context and message, as the program calls it."""


@cache
def messages(languages: Sequence[str]) -> list[list[str]]:
    """For each message that all these languages have, its text in each, in the order of the catalogues. Catalogues
    follow one another; a list begins anew with each."""
    root = Path(str(need("django", "proofs").__file__)).parent
    held = [_catalogues(root, language) for language in languages]
    first = held[0]
    return [[each[key] for each in held] for key in first if all(key in each for each in held)]


def documents(languages: Sequence[str], length: int) -> list[list[list[str]]]:
    """``[document][language][sentence]``: stretches of so many messages, which say two things or more in each."""
    every = messages(tuple(languages))
    parts = (every[start : start + length] for start in range(0, len(every), length))
    sides = ([list(side) for side in zip(*part)] for part in parts)
    return [part for part in sides if all(len(set(side)) > 1 for side in part)]


def _catalogues(root: Path, language: str) -> dict[Key, str]:
    paths = sorted(root.glob(f"**/locale/{language}/LC_MESSAGES/django.po"))
    return {
        (path.relative_to(root).parts[-5], context, message): text
        for path in paths
        for context, message, text in parsed(path.read_text(encoding="utf-8"))
    }


def parsed(catalogue: str) -> list[tuple[str, str, str]]:
    """(context, message, translation) of a gettext catalogue, of plurals the first form; none where it is missing or
    doubtful (fuzzy)."""
    out = []
    for block in catalogue.split("\n\n"):
        if re.search(r"^#,.*\bfuzzy\b", block, re.MULTILINE):
            continue
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if not (match := _STRING.match(line)):
                continue
            name = match[1] or name
            fields[name] = fields.get(name, "") + ast.literal_eval(match[2] or match[3])
        text = fields.get("msgstr") or fields.get("msgstr[0]") or ""
        if fields.get("msgid") and text.strip():
            # One line each: a line is a sentence.
            out.append((fields.get("msgctxt", ""), fields["msgid"], " ".join(text.split())))
    return out
