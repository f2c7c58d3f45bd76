"""Bulk encoding: parquet files in, a folder of parquet files out, by this process or by a pool of Ray actors.

The job is a list of units (`counterpoint.workflow.bulk.units`), each of which one worker reads, encodes and writes as
one file, which appears whole or not at all. Whatever is killed, the worker, the machine or the whole job, a unit is
either done or not begun: no row is lost, none is doubled, and order within a unit is kept.

With Ray, the data set that is mapped over is that of the *units*, one row for each, not that of their rows. A data set
of rows would be cut and merged into blocks as Ray Data sees fit, and its output files would not tell which rows are in
them; so a killed job could only begin anew. Rows never pass through Ray's object store: an actor reads its unit from
storage and writes it there. Ray starts an actor that dies again and gives its unit to one that lives, without end; a
unit whose workers die again and again (it takes more memory than there is) is given up here, after `TRIES`, and named.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from counterpoint.errors import ConfigError, CounterpointError, DataError, need
from counterpoint.workflow.bulk.embed import Embed
from counterpoint.workflow.bulk.units import UNIT_ROWS, Input, Plan, Unit, alone, filesystem, prepare, tidy

TRIES = 3
"""How often a unit is begun by workers that die."""
BUFFER = 4 * 2**20  # bytes of a column read at once, so that memory does not depend on the size of row groups
EVERY = 10.0  # seconds between two lines that tell how far the job is

Result = dict[str, Any]
"""Of a unit: ``part``, ``rows``, ``missing``, ``blank`` and ``error`` (empty where all went well)."""


@dataclass
class Summary:
    """What a job did. rows, missing, blank: of the units done now; before: units that were done already; failed: why,
    by input file; left: units that are not done."""

    units: int
    before: int = 0
    rows: int = 0
    missing: int = 0
    blank: int = 0
    left: int = 0
    seconds: float = 0.0
    failed: dict[str, str] = field(default_factory=dict)


def encode_files(
    embed: Embed,
    inputs: Sequence[Input],
    out: str,
    *,
    engine: Literal["local", "ray"] = "local",
    workers: int | None = None,
    gpus: float | None = None,
    overwrite: bool = False,
    unit_rows: int = UNIT_ROWS,
    say: Callable[[str], None] = print,
) -> Summary:
    """Encode every row of the inputs (from `units.find`) into parquet files in the folder ``out``.

    What is done already is not done again. workers: actors of Ray (None: as many as there are GPUs for, or CPUs).
    gpus: of each of them (None: one where Ray has any). A unit that fails is named in the summary and the others are
    done. Raises `ConfigError` and `DataError` where the job cannot begin: see `units.prepare`.
    """
    with alone(out):  # what another process is writing is not to be tidied away
        plan = prepare(inputs, out, settings=embed.settings(), overwrite=overwrite, unit_rows=unit_rows)
        return _encoded(plan, embed, out, engine=engine, workers=workers, gpus=gpus, say=say)


def _encoded(
    plan: Plan,
    embed: Embed,
    out: str,
    *,
    engine: Literal["local", "ray"],
    workers: int | None,
    gpus: float | None,
    say: Callable[[str], None],
) -> Summary:
    """Do the units of a plan that are not done."""
    todo = [unit for unit in plan.units if unit.part not in plan.done]
    summary = Summary(len(plan.units), before=len(plan.units) - len(todo), left=len(todo), failed=dict(plan.damaged))
    paths = {unit.part: unit.path for unit in todo}
    work = partial(encode_unit, embed, out)
    start = told = time.perf_counter()
    results = _ray(work, todo, workers=workers, gpus=gpus) if engine == "ray" and todo else map(work, todo)
    for result in results:
        path = paths.pop(result["part"])
        if result["error"]:
            summary.failed.setdefault(path, result["error"])
            continue
        summary.left -= 1
        for count in ("rows", "missing", "blank"):
            setattr(summary, count, getattr(summary, count) + result[count])
        if time.perf_counter() - told > EVERY:
            told = time.perf_counter()
            speed = summary.rows / (told - start)
            say(f"{summary.units - summary.left:,} of {summary.units:,} units, {speed:,.0f} rows/s")
    for path in paths.values():
        summary.failed.setdefault(path, f"{path}: Ray gave it up; its log says why.")
    tidy(out)
    summary.seconds = time.perf_counter() - start
    return summary


# --- one unit --------------------------------------------------------------------------------------------------


def encode_unit(embed: Embed, out: str, unit: Unit) -> Result:
    """Read, encode and write one unit. What goes wrong with it is said in the result: the others can be done."""
    result = {"part": unit.part, "rows": unit.stop - unit.start, "missing": 0, "blank": 0, "error": ""}
    fs, root = filesystem(out)
    aside = f"{root}/.{unit.part}.{uuid.uuid4().hex[:8]}"
    begun = f"{aside}.begun"  # stays where a worker dies, which leaves no other trace in every store
    missing, blank, embed.seen = embed.missing, embed.blank, unit.start
    try:
        # It can be there: a worker that died after it had written the unit, but before it could say so.
        if not fs.exists(f"{root}/{unit.part}"):
            if len(fs.glob(f"{root}/.{unit.part}.*.begun")) >= TRIES:
                raise DataError(f"{TRIES} workers died while they encoded it. Perhaps memory is short: try --batch.")
            fs.touch(begun)
            _write(embed, unit, fs, aside)
            fs.mv(aside, f"{root}/{unit.part}")
    except Exception as error:  # a damaged file, a full disk, a model that is out of memory: all named, none hidden
        first = (str(error).strip().splitlines() or [""])[0][:200]
        named = first if isinstance(error, CounterpointError) else f"{type(error).__name__}: {first}"
        result["error"] = f"{unit.path}, rows {unit.start:,} to {unit.stop:,}: {named}"
        with suppress(Exception):
            fs.rm_file(aside)
    with suppress(Exception):
        fs.rm_file(begun)
    return {**result, "missing": embed.missing - missing, "blank": embed.blank - blank}


def _write(embed: Embed, unit: Unit, fs: Any, aside: str) -> None:
    source, name = filesystem(unit.path)
    with source.open(name, "rb") as file, pq.ParquetFile(file, buffer_size=BUFFER) as rows:
        schema = embed.schema(rows.schema_arrow)
        others = schema.names[:-1]  # values of embeddings do not repeat: a dictionary of them would be waste
        columns = list(dict.fromkeys([*others, *embed.reads(rows.schema_arrow.names)]))
        with fs.open(aside, "wb") as sink, pq.ParquetWriter(sink, schema, use_dictionary=others) as writer:
            for batch in blocks(rows, unit, columns, embed.batch):
                table = pa.Table.from_batches([batch]).replace_schema_metadata(schema.metadata)
                writer.write_table(embed(table))
            writer.close()
            sink.flush()
            with suppress(AttributeError, OSError):  # a file of this machine: on the disk before it gets its name
                os.fsync(sink.fileno())


def blocks(rows: pq.ParquetFile, unit: Unit, columns: list[str], size: int) -> Iterator[pa.RecordBatch]:
    """The rows of a unit, ``size`` at a time; row groups without any are passed over."""
    groups, at = [], 0
    skip = unit.start
    for number in range(rows.num_row_groups):
        n = rows.metadata.row_group(number).num_rows
        if at + n <= unit.start:
            skip -= n
        elif at < unit.stop:
            groups.append(number)
        at += n
    if at < unit.stop:
        raise DataError(f"it has only {at:,} rows now: it was changed while the job ran.")
    left = unit.stop - unit.start
    for batch in rows.iter_batches(batch_size=size, row_groups=groups, columns=columns) if left else ():
        part = batch.slice(min(skip, len(batch)), left)
        skip = max(0, skip - len(batch))
        left -= len(part)
        if len(part):
            yield part
        if not left:
            return


# --- Ray -------------------------------------------------------------------------------------------------------


class _Worker:
    """What an actor does: a unit after another, with one model."""

    def __init__(self, work: Callable[[Unit], Result], gpus: float) -> None:
        if not gpus:  # Ray hides GPUs from who asked for none in some versions, and in others not
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self.work = work

    def __call__(self, row: dict[str, Any]) -> Result:
        return self.work(Unit(**row))


def _ray(
    work: Callable[[Unit], Result], units: Sequence[Unit], *, workers: int | None, gpus: float | None
) -> Iterator[Result]:
    """Results of the units in the order in which actors finish them; a unit that was given up has none."""
    with _session() as ray:
        data = need("ray.data", "ray")
        have = ray.cluster_resources()
        if gpus is None:
            gpus = float(have.get("GPU", 0) > 0)
        fitting = int(have.get("GPU", 0) / gpus) if gpus else int(have.get("CPU", 1))
        if fitting < 1:
            raise ConfigError(f"A worker needs {gpus:g} GPUs, and Ray knows of {have.get('GPU', 0):g}.")
        pool = min(workers or fitting, len(units))
        found = data.from_items([asdict(unit) for unit in units], override_num_blocks=len(units)).map(
            _Worker,
            fn_constructor_args=(work, gpus),
            # One at a time, so that none waits behind a slow one while another actor has nothing to do.
            compute=data.ActorPoolStrategy(size=pool, max_tasks_in_flight_per_actor=1),
            num_cpus=1,
            num_gpus=gpus or None,
        )
        try:
            yield from found.iter_rows()
        except ray.exceptions.RayError as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            raise DataError(f"Ray stopped the job ({first}). Type the same command again to go on.") from error


@contextmanager
def _session() -> Iterator[Any]:
    """Ray as it runs already, or at RAY_ADDRESS, or on this machine for the time of the job."""
    # Said before Ray is imported, and passed on to what it starts: nothing is reported to anybody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # It warns of how Ray Data itself starts its actors; what goes wrong comes as an exception in any case.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray = need("ray", "ray")
    mine = not ray.is_initialized()
    if mine:
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        if os.environ.get("RAY_ADDRESS"):
            ray.init(**quiet)
        else:
            # Only names of units pass through the object store; its default would be a third of the memory.
            ray.init(address="local", include_dashboard=False, object_store_memory=128 * 2**20, **quiet)
    context = need("ray.data", "ray").DataContext.get_current()
    changed = {"max_errored_blocks": -1, "enable_progress_bars": False}  # -1: the other units are done in any case
    before = {name: getattr(context, name) for name in changed}
    log = logging.getLogger("ray.data")
    level = log.level
    try:
        log.setLevel(logging.ERROR)
        for name, value in changed.items():
            setattr(context, name, value)
        yield ray
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        log.setLevel(level)
        if mine:
            ray.shutdown()
