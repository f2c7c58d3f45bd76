"""What reading left out and decided: counted, listed, and ready to be printed as sentences."""

from __future__ import annotations

from dataclasses import dataclass, field

SHOWN = 5  # names listed per reason before "and N more"


@dataclass
class Log:
    """Collects what was skipped (thing, reason) and what was decided (notes), for the caller to show.

    >>> log = Log()
    >>> log.skip("a.png", "not an image")
    >>> log.lines()
    ['Skipped 1: not an image (a.png).']
    """

    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def skip(self, what: str, why: str) -> None:
        """One thing was left out. The same thing for the same reason counts once.

        what: names it. why: the reason, a clause.
        """
        if (what, why) not in self._seen:
            self._seen.add((what, why))
            self.skipped.append((what, why))

    def note(self, sentence: str) -> None:
        """A decision the user should know of; said once.

        sentence: with its full stop.
        """
        if sentence not in self.notes:
            self.notes.append(sentence)

    def lines(self) -> list[str]:
        """Every note, then one sentence per reason with the count and the first names."""
        out = list(self.notes)
        reasons: dict[str, list[str]] = {}
        for what, why in self.skipped:
            reasons.setdefault(why, []).append(what)
        for why, names in reasons.items():
            more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
            out.append(f"Skipped {len(names):,}: {why} ({', '.join(names[:SHOWN])}{more}).")
        return out

    def __post_init__(self) -> None:
        self._seen: set[tuple[str, str]] = set(self.skipped)
