"""The command line: `counterpoint VERB`. One file per verb; each is a plain function with typed arguments."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from counterpoint.errors import CounterpointError, visible

OVERVIEW = """Learn representations by contrast: from a file of raw rows to an encoder that is trained, measured,
explained, exported, indexed and searched.

First steps:
  counterpoint demo                                   the main job on real data, in a few minutes
  counterpoint fit pairs.jsonl --out runs/mine        train on your own rows; the columns choose the method
  counterpoint search runs/demo "parse an ISO date"   search with what was trained

Verbs (counterpoint VERB --help tells all about one):
"""


def overview() -> str:
    """What `counterpoint --help` prints: the first sentence of every verb."""
    lines = [f"  {verb:9} {(function.__doc__ or '').splitlines()[0]}" for verb, function in verbs().items()]
    return OVERVIEW + "\n".join(lines)


def verbs() -> dict[str, Callable[..., Any]]:
    """Verb -> function; imported here, so that `import counterpoint` stays light."""
    from counterpoint.cli import (
        align,
        compare,
        demo,
        diagnose,
        doctor,
        encode,
        evaluate,
        export,
        fit,
        generate,
        index,
        inspect,
        merge,
        methods,
        mine,
        prove,
        refine,
        report,
        search,
    )

    return {
        "fit": fit.fit,
        "eval": evaluate.evaluate,
        "diagnose": diagnose.diagnose,
        "encode": encode.encode,
        "index": index.index,
        "search": search.search,
        "mine": mine.mine,
        "align": align.align,
        "generate": generate.generate,
        "refine": refine.refine,
        "export": export.export,
        "merge": merge.merge,
        "report": report.report,
        "methods": methods.methods,
        "prove": prove.prove,
        "compare": compare.compare,
        "data": inspect.data,
        "doctor": doctor.doctor,
        "demo": demo.demo,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code.

    0: done. 2: an error made on purpose, whose sentence is printed. 130: stopped by Ctrl-C. 143: by SIGTERM.
    """
    from counterpoint._version import __version__

    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments in (["--version"], ["-V"]):
        print(f"counterpoint {__version__}")
        return 0
    if arguments in ([], ["--help"], ["-h"]):
        print(overview())
        return 0
    import tyro

    try:
        with sentences(), terminable():
            if arguments[0] == "search":
                from counterpoint.cli.search import items_last

                arguments = items_last(arguments)
            code = tyro.extras.subcommand_cli_from_dict(
                verbs(), prog="counterpoint", args=arguments, config=(tyro.conf.FlagCreatePairsOff,)
            )
        return code if isinstance(code, int) else 0
    except CounterpointError as error:
        if not getattr(error, "told", False):  # by the process that leads
            print(f"counterpoint: {visible(str(error))}", file=sys.stderr)
    except BrokenPipeError:  # `counterpoint search ... | head`: whoever read has had enough; rich does the same
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, a folder without permission
        place = visible(str(error.filename or "the file system"))
        print(f"counterpoint: {error.strerror or error}: {place}", file=sys.stderr)
    except KeyboardInterrupt:
        print("counterpoint: interrupted.", file=sys.stderr)
        return 130
    except SystemExit as error:  # tyro has printed its help, or what it does not understand
        return error.code if isinstance(error.code, int) else 2
    return 2


@contextmanager
def terminable() -> Iterator[None]:
    """Inside, SIGTERM ends the verb as Ctrl-C does: what it was writing is removed. A second one ends it at once.

    Nothing changes outside the main thread, where no signal arrives; where somebody else handles the signal; and under
    a launcher of many processes, which wants them gone when it asks for it.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL or "TORCHELASTIC_RUN_ID" in os.environ:
        yield
        return

    def stop(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def sentences() -> Iterator[None]:
    """The library's warnings as sentences, without the place in its source."""
    before = warnings.showwarning

    def show(message: Any, category: Any, *where: Any, **more: Any) -> None:
        if category is UserWarning:
            print(f"counterpoint: {visible(str(message))}", file=sys.stderr)
        else:
            before(message, category, *where, **more)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
