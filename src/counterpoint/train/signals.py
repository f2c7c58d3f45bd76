"""Ctrl-C finishes the step and saves; a second one quits at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Context in which the first SIGINT or SIGTERM only sets `asked`; from then on they act as they did before.

    Outside the main thread Python delivers no signals, and the context does nothing. quiet: say nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.asked, self._quiet = False, quiet
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._ask) for s in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        # Not print: the signal may have arrived in the middle of one.
        if not self._quiet:
            os.write(2, b"\nFinishing the step, then saving. Once more quits at once.\n")
        self._restore()

    def _restore(self) -> None:
        for s, handler in self._before.items():
            # None: a handler that was not installed from Python, which cannot be put back from Python either.
            signal.signal(s, signal.SIG_DFL if handler is None else handler)
        self._before = {}
