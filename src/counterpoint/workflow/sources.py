"""The rows a verb works on, which of their columns, and retrieval sets among what verbs are given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterpoint.errors import DataError

if TYPE_CHECKING:
    import datasets

    from counterpoint.data.files.options import Said
    from counterpoint.data.files.read import Source
    from counterpoint.data.log import Log
    from counterpoint.data.sets.beir import Retrieval


def read_all(sources: Source | Any, *, split: str | None = None, log: Log, reading: Said = None) -> datasets.Dataset:
    """Every row of the sources (of one split, where one is named): files, or rows that are in memory already.

    reading: what is said of files rather than found.
    """
    from counterpoint.data.files.read import read

    return read(sources, split=split or "all", streaming=False, log=log, reading=reading)


def find_column(rows: datasets.Dataset, modality: str, asked: str | None) -> str:
    """The column asked for, else the only one of the modality, or, where there are several, the one called like it.

    Of items that are cells of several columns, which the model knows, none: ''; of such with an image, the image.
    """
    from counterpoint.data.column_types import column_type, describe
    from counterpoint.modalities.base import parts

    single = next((m for m in parts(modality) if m.columns == "one"), None)
    if single is None:
        if asked is not None:
            raise DataError(f"The model encodes {parts(modality)[0].many} and knows their columns: leave --column out.")
        return ""
    name = single.name
    fitting = [column for column in rows.column_names if column_type(rows, column) == name]
    if asked is not None:
        if asked not in rows.column_names:
            raise DataError(f"There is no column {asked!r}; the rows have {describe(rows)}.")
        if asked not in fitting:
            raise DataError(f"Column {asked!r} holds no {name}; the rows have {describe(rows)}.")
        return asked
    if len(fitting) == 1 or name in fitting:
        return name if name in fitting else fitting[0]
    if not fitting:
        raise DataError(f"No column holds {name}, which is what the model encodes; the rows have {describe(rows)}.")
    raise DataError(f"Which column holds the {name}? Type --column with one of: {', '.join(fitting)}.")


def retrieval_set(data: Source | Any, split: str | None = None, *, to_learn: bool = False) -> Retrieval | None:
    """The retrieval set that a source is: a folder in BEIR's layout, or a registered set; None where it is none.

    data: as of the verbs. split: of the judgements (None: test). to_learn: train, where there are judgements for it.
    Raises `DataError` for a set that is damaged.
    """
    from counterpoint.data import objects
    from counterpoint.data.sets import registry
    from counterpoint.data.sets.beir import read_beir

    sources = objects.sources(data)
    if len(sources) != 1 or not isinstance(source := sources[0], str | Path):
        return None
    known = registry.ENTRIES.get(str(source))
    if known is not None and known.task == "retrieval":
        return registry.load(known.name, split)  # type: ignore[return-value]  # of this task it is one
    folder = Path(source)
    if not any(folder.glob("corpus.jsonl*")):
        return None
    usual = "train" if to_learn and any(folder.glob("qrels/train.*")) else "test"
    return read_beir(folder, split=split or usual)
