"""``KEY=VALUE`` words of the command line."""

from __future__ import annotations

from collections.abc import Sequence

from counterpoint.errors import ConfigError


def key_values(words: Sequence[str], option: str) -> dict[str, str]:
    """``("a=1", "b=x")`` to ``{"a": "1", "b": "x"}``."""
    found: dict[str, str] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not key or not value:
            raise ConfigError(f"{option} takes words KEY=VALUE; {word!r} is none. Type for instance: {option} name=value")
        found[key] = value
    return found
