"""Roles of items, each with a prompt perhaps: which there are, and the refusal of those that there are not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from counterpoint.errors import ConfigError

ROLES = ("query", "document")
"""Roles that every encoder takes, whether it has a prompt for them or not."""
NO_PROMPT = "none"
"""The role that asks for no prompt, of an encoder that would otherwise put one before every item."""


def known_roles(prompts: Mapping[str, str], domains: Iterable[str], default: str | None) -> tuple[str, ...]:
    """The roles beside None. domains: roles of an encoder with experts. default: the role whose prompt is put where
    none is asked for (None: no prompt then).

    prompts: role -> text.

    >>> known_roles({"query": "query: ", "document": ""}, (), "document")
    ('query', 'document', 'none')
    """
    none = (NO_PROMPT,) if default is not None else ()
    return tuple(dict.fromkeys((*ROLES, *prompts, *domains, *none)))


def check_role(role: str | None, roles: Iterable[str], of: str) -> None:
    """Refuse a role that there is none of, with those there are and the one that may be meant. of: the encoder.

    role: that is asked for. roles: those there are.
    """
    roles = tuple(roles)
    if role is None or role in roles:
        return
    close = get_close_matches(str(role), roles, n=1)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    raise ConfigError(f"role={role!r}: {of} knows {', '.join(roles)}.{meant}")
