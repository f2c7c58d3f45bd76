"""The terminal: what rows, columns and servers say is shown there as text and never obeyed as a command."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console as Rich
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from counterpoint.errors import visible


class Console(Rich):
    """A console of `rich` whose texts cannot hold commands to the terminal; its own colours are untouched."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich's, with what a terminal would obey made visible. renderable, options: as there."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def sentences() -> Console:
    """A console for sentences: no markup is read from them, and no line is broken."""
    return Console(markup=False, highlight=False, soft_wrap=True)


def say(text: Any) -> None:
    """Print one thing that may hold what a row, a file's name or a server says.

    text: of anything that can be printed.
    """
    print(visible(str(text)))
