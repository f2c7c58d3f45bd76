"""The command line: `counterpoint VERB`. One file per verb; each is a plain function with typed arguments."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from counterpoint.errors import CounterpointError

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
    from counterpoint.cli import demo, doctor, encode, evaluate, export, fit, index, inspect, methods, report

    return {
        "fit": fit.fit,
        "eval": evaluate.evaluate,
        "encode": encode.encode,
        "index": index.index,
        "search": index.search,
        "export": export.export,
        "report": report.report,
        "methods": methods.methods,
        "data": inspect.data,
        "doctor": doctor.doctor,
        "demo": demo.demo,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Errors made on purpose print their sentence and exit with 2; Ctrl-C exits with 130."""
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
        tyro.extras.subcommand_cli_from_dict(verbs(), prog="counterpoint", args=arguments)
    except CounterpointError as error:
        print(f"counterpoint: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("counterpoint: interrupted.", file=sys.stderr)
        return 130
    return 0
