"""Rows of any modality to an index: which tower of a model encodes them, what of them a hit shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from counterpoint.data.column_types import column_type, describe
from counterpoint.data.files.options import Said
from counterpoint.data.files.read import Source
from counterpoint.data.log import Log
from counterpoint.data.objects import is_paths
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.series import SeriesEncoder
from counterpoint.encoders.transforms import unit as unit_length
from counterpoint.errors import ConfigError, DataError, ModelError
from counterpoint.modalities.base import JOINED, is_encoded, is_numbers, of
from counterpoint.modalities.dna import modality as DNA
from counterpoint.modalities.text import TEXT
from counterpoint.search.align import Reference
from counterpoint.search.index import Index, Rescore
from counterpoint.search.quantise import Dtype, check_dims
from counterpoint.search.sequences import FASTA, reference
from counterpoint.workflow.bulk.embed import EMBEDDING, Embed
from counterpoint.workflow.models import load_towers, model_path
from counterpoint.workflow.questions import weights
from counterpoint.workflow.series import embedded_steps
from counterpoint.workflow.share import learn_for_index, of_model, pairs_in, pairs_to_learn_from
from counterpoint.workflow.sources import find_column, read_all

if TYPE_CHECKING:
    import datasets


def index(
    model: Path | str,
    data: Source | Any,
    *,
    out: Path | str | None = None,
    column: str | None = None,
    stream: str | None = None,
    queries: Sequence[str] = (),
    split: str | None = None,
    dtype: Dtype = "float32",
    dim: int | None = None,
    rescore: Rescore = "auto",
    oversample: int = 4,
    bm25: bool = True,
    tokenizer: Literal["words", "code"] = "words",
    ann: bool | Literal["auto"] = "auto",
    unit: int = 500,
    overlap: int = 250,
    overwrite: bool = False,
    log: Log | None = None,
    reading: Said = None,
) -> Index | Reference:
    """Encode rows with a model and write an index of them.

    model: a run folder or model folder. data: files of rows, or rows in memory, as of `counterpoint.fit`. out: the
    folder of the index (None: ``model/index``). column: what is encoded (None: the only column of the modality).
    stream: which tower of the model (None: the one whose items the rows hold; of several, the texts'). queries: files
    of pairs from which the weights of a hybrid search are learned, of texts alone. split: which part of the data
    (None: all). dtype, dim, rescore, oversample, ann, overwrite: as of `Index.build`. bm25, tokenizer: of texts alone.
    unit, overlap: bases of the stretches that a FASTA file is cut into. log: receives what was found and left
    out. reading: how files are read, where that is not found by looking at them: see
    `counterpoint.data.files.read.read`.

    A row that holds nothing to encode, or what cannot be read, is left out and counted in the log; of texts, it is an
    error. Of files (images, recordings) a hit shows the path; the column ``row`` of a hit is the number of its row in
    the data. Returns the opened index; of one FASTA file and a model of DNA, a `Reference`.
    Raises `DataError`, `ConfigError` and `ModelError`, each with what to change.
    """
    log = Log() if log is None else log
    towers, out = load_towers(model), Path(model) / "index" if out is None else Path(out)
    named = [data] if isinstance(data, str | Path) else list(data) if is_paths(data) else []
    sources = [str(source) for source in named]
    if stream is not None and stream not in towers:
        raise ModelError(f"{model} encodes {' and '.join(towers)}, not {stream}.")
    if DNA.name in towers and (stream or DNA.name) == DNA.name and any(map(_is_fasta, sources)):
        _no_words(DNA.many, queries, tokenizer)
        if dtype in ("binary", "ubinary") or dim is not None or rescore != "auto":
            raise ConfigError("A reference of DNA is kept as float32, float16 or int8: leave --dim and --rescore out.")
        return _reference(
            model, sources, towers[DNA.name], out, unit=unit, overlap=overlap, dtype=dtype, ann=ann, overwrite=overwrite
        )
    if queries and not bm25:
        raise ConfigError("--queries say how much words count, and --no-bm25 leaves the words out: give one of them.")
    rows = read_all(data, split=split, log=log, reading=reading)
    stream = _tower(towers, rows, column, log) if stream is None else stream
    encoder = towers[stream]
    check_dims([dim] if dim is not None else [], encoder.dim)
    settings: dict[str, Any] = {
        "dtype": dtype, "dim": dim, "rescore": rescore, "oversample": oversample, "ann": ann,
        "model": model_path(model), "overwrite": overwrite,
    }  # fmt: skip
    about = {"modality": encoder.modality, "stream": stream, "weights": weights(model)}
    if encoder.modality != TEXT:
        _no_words(of(encoder.modality).many, queries, tokenizer)
        if isinstance(encoder, SeriesEncoder):
            return _windows(encoder, rows, out, about=about, log=log, settings=settings)
        embed = Embed(model, column="", stream=stream if len(towers) > 1 else None, role="document", keep=())
        return _items(embed, rows, out, column=find_column(rows, encoder.modality, column), about=about, log=log,
                      settings=settings)  # fmt: skip
    own = pairs_in(rows, sources)
    if own is not None and column is None and own.columns["positive"] == "positive" and TEXT not in rows.column_names:
        column = "positive"
        log.note(f"The column 'positive' is indexed, as the rows hold {own.why}")
    text = find_column(rows, TEXT, column)
    pairs = pairs_to_learn_from(rows, text, own=own, queries=queries, data=sources, model=Path(model), log=log)
    built = Index.build(
        out,
        _shown(_named(rows).with_format("arrow")[:]),
        encoder=encoder,
        text=text,
        bm25=bm25,
        tokenizer=tokenizer,
        share=of_model(Path(model)),
        items={**about, "column": text},
        **settings,
    )
    learn_for_index(built, encoder, pairs)
    return built


def _no_words(many: str, queries: Sequence[str], tokenizer: str) -> None:
    """Refuse what is of words, for rows that have none."""
    if queries or tokenizer != "words":
        given = "--queries" if queries else "--tokenizer"
        raise ConfigError(f"An index of {many} is searched by embeddings alone: leave {given} out.")


def _tower(towers: Mapping[str, Encoder], rows: datasets.Dataset, column: str | None, log: Log) -> str:
    """The tower whose items the rows hold (or the column that is asked for); of several, the texts'."""
    if len(towers) == 1:
        return next(iter(towers))
    asked = [column] if column in rows.column_names else rows.column_names
    held = {column_type(rows, name) for name in asked}
    found = [name for name, encoder in towers.items() if encoder.modality.partition(JOINED)[0] in held]
    if not found:
        many = " or ".join(of(encoder.modality).many for encoder in towers.values())
        raise DataError(f"The model encodes {many}, which no column holds; the rows have {describe(rows)}.")
    best = TEXT if TEXT in found else found[0]
    if others := [name for name in found if name != best]:
        log.note(
            f"The rows hold {' and '.join(of(towers[name].modality).many for name in found)}; the tower {best} is "
            f"indexed. Another: --stream {' or '.join(others)}."
        )
    return best


def _items(
    embed: Embed, rows: datasets.Dataset, out: Path, *, column: str, about: Mapping[str, Any], log: Log,
    settings: Mapping[str, Any],
) -> Index:  # fmt: skip
    """An index of items that are no texts, encoded block by block: neither they nor their files are kept."""
    embed.column = column
    arrow, vectors, kept = _named(rows).with_format("arrow"), [np.empty((0, embed.dim), np.float32)], []
    numbered = next(name for name in ("row", "row_number", "row_in_data") if name not in rows.column_names)
    for start in range(0, len(rows), embed.batch):
        block = arrow[slice(start, start + embed.batch)]
        found = embed(block)[EMBEDDING].combine_chunks()
        there = found.is_valid()
        vectors.append(found.drop_null().flatten().to_numpy().reshape(-1, embed.dim))
        shown = _shown(block, without=column).append_column(numbered, pa.array(range(start, start + len(block))))
        kept.append(shown.filter(there))
    modality = embed.modality
    if embed.missing == len(rows):
        where = f": column {column!r} holds nothing that can be read" if column else ""
        raise DataError(f"None of {len(rows):,} rows could be encoded as {modality.one}{where}.")
    if embed.missing:
        log.note(
            f"{embed.missing:,} of {len(rows):,} rows are left out: they hold no {modality.noun} that can be read."
        )
    table = pa.concat_tables(kept)
    empty = [name for name in table.column_names if table[name].null_count == len(table)]
    return Index.build(
        out,
        table.drop_columns(empty),
        embeddings=np.concatenate(vectors),
        text=None,
        bm25=False,
        items={**about, "column": column or None, "row": numbered},
        **settings,
    )


def _windows(
    encoder: SeriesEncoder, rows: datasets.Dataset, out: Path, *, about: Mapping[str, Any], log: Log,
    settings: Mapping[str, Any],
) -> Index:  # fmt: skip
    """An index of the windows of a series: a hit is the step that a window ends with."""
    z = np.concatenate(list(embedded_steps(encoder, rows, log=log)))
    whole = np.flatnonzero(~np.isnan(z).any(1))
    first = len(z) - len(whole)
    steps = encoder.config.length
    log.note(f"{len(whole):,} windows of {steps} steps; the first {first:,} rows have too few before them.")
    numbered = next(name for name in ("row", "row_number", "row_in_data") if name not in rows.column_names)
    table = rows.with_format("arrow")[:].take(pa.array(whole)).append_column(numbered, pa.array(whole))
    items = {**about, "column": None, "row": numbered}
    return Index.build(out, table, embeddings=unit_length(z[whole]), text=None, bm25=False, items=items, **settings)


def _named(rows: datasets.Dataset) -> datasets.Dataset:
    """Rows whose classes are what they are called, not their numbers."""
    import datasets  # here: importing it takes long

    classes = {name: feature for name, feature in rows.features.items() if type(feature).__name__ == "ClassLabel"}
    table = rows.data.table if rows._indices is None else rows.with_format("arrow")[:]
    for name, feature in classes.items():
        numbers = table[name].to_pylist()
        said = [None if n is None or n < 0 else feature.names[n] for n in numbers]
        table = table.set_column(table.column_names.index(name), name, pa.array(said, pa.string()))
    return datasets.Dataset(table.replace_schema_metadata(None)) if classes else rows


def _shown(table: pa.Table, *, without: str = "") -> pa.Table:
    """What a hit shows of rows: of a file its path, of numbers that are encoded nothing."""
    for place, field in enumerate(table.schema):
        if is_encoded(field.type):
            paths = pa.types.is_struct(field.type) and field.type.get_field_index("path") >= 0
            column = pc.struct_field(table[field.name], "path") if paths else pa.nulls(len(table), pa.string())
            table = table.set_column(place, field.name, column)
    if without and is_numbers(table.schema.field(without).type):
        table = table.drop_columns([without])
    return table


def _is_fasta(source: str) -> bool:
    from counterpoint.data.files import formats

    return formats.kind(Path(source)) == FASTA


def _reference(
    model: Path | str,
    sources: Sequence[str],
    encoder: Encoder,
    out: Path,
    *,
    unit: int,
    overlap: int,
    dtype: Any,
    ann: bool | Literal["auto"],
    overwrite: bool,
) -> Reference:
    if len(sources) != 1:
        raise DataError(f"A reference is one FASTA file with all contigs; {len(sources)} sources were given.")
    return Reference.build(
        out,
        reference(sources[0]),
        encoder,
        unit=unit,
        overlap=overlap,
        dtype=dtype,
        ann=ann,
        model=model_path(model),
        overwrite=overwrite,
    )
