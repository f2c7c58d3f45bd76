"""Views of table rows: cells exchanged for those of other rows, cells hidden, halves of a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from counterpoint.errors import ConfigError
from counterpoint.modalities.table import Cells, Table, is_missing
from counterpoint.views.base import Collate
from counterpoint.views.features import Cheap, Matrix, scaled, standardised


def some_cells(shape: tuple[int, int], rng: np.random.Generator, *, rate: float) -> Tensor:
    """``(N, C)`` bool, True at ``rate`` of the cells of each row: that share of C rounded down, but at least one.

    rng: every draw comes from it. shape: (N, C).

    >>> some_cells((3, 10), np.random.default_rng(0), rate=0.3).sum(1).tolist()
    [3, 3, 3]
    """
    if not 0 <= rate <= 1:
        raise ConfigError(f"rate={rate}: give a share of the cells, from 0 to 1.")
    count = max(1, int(rate * shape[1])) if rate else 0
    rank = rng.random(shape).argsort(1).argsort(1)
    return torch.from_numpy(rank < count)


def corrupt_cells(cells: Cells, rng: np.random.Generator, *, rate: float, pool: Cells | None = None) -> Cells:
    """``rate`` of each row's cells replaced by what the same column holds in rows that are drawn for each cell.

    pool: the rows to draw from (None: the batch itself, which is a sample of the column's distribution). A cell that is
    missing, or for which a missing one was drawn, stays as it is. rng: every draw comes from it.

    Source: Bahri et al. 2022 (SCARF), arXiv 2106.15147.

    >>> numbers = torch.arange(8.0).view(4, 2)
    >>> cells = {"codes": torch.zeros(4, 0).long(), "values": numbers, "missing": numbers < 0}
    >>> view = corrupt_cells(cells, np.random.default_rng(0), rate=0.5)
    >>> int((view["values"] != cells["values"]).sum(1).max())  # half of each row's two cells, at most
    1
    """
    pool = cells if pool is None else pool
    missing = cells["missing"]
    shape = (missing.shape[0], missing.shape[1])
    chosen = some_cells(shape, rng, rate=rate)
    source = torch.from_numpy(rng.integers(0, max(1, len(pool["missing"])), shape))
    chosen &= ~missing & ~pool["missing"].gather(0, source)
    k = cells["codes"].shape[1]
    return {
        "codes": torch.where(chosen[:, :k], pool["codes"].gather(0, source[:, :k]), cells["codes"]),
        "values": torch.where(chosen[:, k:], pool["values"].gather(0, source[:, k:]), cells["values"]),
        "missing": missing,
    }


def mask_cells(cells: Cells, rng: np.random.Generator, *, rate: float) -> tuple[Cells, Tensor]:
    """The rows with ``rate`` of their cells missing, and which of those had been there ``(N, C)`` bool.

    rng: every draw comes from it.

    >>> numbers = torch.arange(8.0).view(4, 2)
    >>> cells = {"codes": torch.zeros(4, 0).long(), "values": numbers, "missing": numbers < 0}
    >>> masked, hidden = mask_cells(cells, np.random.default_rng(0), rate=0.5)
    >>> hidden.sum(1).tolist(), bool(torch.equal(masked["missing"], hidden))
    ([1, 1, 1, 1], True)
    """
    missing = cells["missing"]
    hidden = some_cells((missing.shape[0], missing.shape[1]), rng, rate=rate)
    gone, k = missing | hidden, cells["codes"].shape[1]
    return {
        "codes": cells["codes"].masked_fill(gone[:, :k], 0),
        "values": cells["values"].masked_fill(gone[:, k:], 0.0),
        "missing": gone,
    }, hidden & ~missing


def two_views(rows: Sequence[Table], rng: np.random.Generator, collate: Collate) -> tuple[Cells, Cells]:
    """Each row twice with 30 % of its cells from other rows of the batch; see `counterpoint.views.base.TwoViews`.

    rows: N of them. rng: every draw comes from it. collate: the encoder's, to cells.

    >>> numbers = torch.arange(8.0).view(4, 2)
    >>> cells = {"codes": torch.zeros(4, 0).long(), "values": numbers, "missing": numbers < 0}
    >>> one, other = two_views([{"a": 1.0, "b": 2.0}] * 4, np.random.default_rng(0), lambda rows: cells)
    >>> one["values"].shape, other["values"].shape
    (torch.Size([4, 2]), torch.Size([4, 2]))
    """
    cells = collate(rows)
    assert not isinstance(cells, Tensor)
    one, other = (corrupt_cells(dict(cells), rng, rate=0.3) for _ in range(2))
    return one, other


def counterparts(rows: Sequence[Table], rng: np.random.Generator, collate: Collate) -> tuple[list[Any], list[Any]]:
    """Half of the cells of each row had to find the other half.

    The halves are drawn for each row among the cells that are there; rows of fewer than two cells have none. See
    `counterpoint.views.base.Counterparts`.

    rows: N of them. rng: every draw comes from it. collate: not used, halves are rows.

    >>> first, second = counterparts([{"age": 40, "city": "Rome"}], np.random.default_rng(0), list)
    >>> sorted([*first[0], *second[0]])
    ['age', 'city']
    """
    first: list[Any] = []
    second: list[Any] = []
    for row in rows:
        there = [name for name, cell in row.items() if not is_missing(cell)]
        rng.shuffle(there)
        half = len(there) // 2
        first.append({name: row[name] for name in there[:half]} if half else None)
        second.append({name: row[name] for name in there[half:]} if half else None)
    return first, second


# --- cheap features ----------------------------------------------------------------------------------------------

VALUES = 100
"""Values of a column of categories that count by themselves, the most frequent; the others are one."""


def columns(train: Sequence[Any], test: Sequence[Any]) -> tuple[Matrix, Matrix, str]:
    """Cells of a table: numbers standardised, missing ones as the mean beside a mark; everything else one-hot.

    train, test: rows. Returns the matrices of both, and what was left out of them in words.

    >>> rows = [{"age": 30, "city": "Rome"}, {"age": 40, "city": "Oslo"}]
    >>> train, test, cut = columns(rows, [{"age": 35, "city": "Rome"}])
    >>> train.shape[0], test.shape[0], train.shape[1] == test.shape[1]
    (2, 1, True)
    """
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder

    known, unseen = ([item.get("table", item) for item in items] for items in (train, test))
    names = list(dict.fromkeys(name for row in known for name in row))
    numbers = [n for n in names if all(_is_number(cell) for row in known if not is_missing(cell := row.get(n)))]
    others = [n for n in names if n not in numbers]
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    if numbers:
        filled = SimpleImputer(add_indicator=True)
        a = filled.fit_transform(_array(known, numbers, float))
        parts.append(standardised(a, filled.transform(_array(unseen, numbers, float)), rows=False))
    if others:
        code = OneHotEncoder(max_categories=VALUES, handle_unknown="infrequent_if_exist", sparse_output=False)
        a = code.fit_transform(_array(known, others, str))
        parts.append((a, code.transform(_array(unseen, others, str))))
    both = (np.concatenate([part[side] for part in parts], axis=1) for side in (0, 1))
    return *scaled(*both), ""


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float | np.number) and not isinstance(cell, bool)


def _array(rows: Sequence[Any], names: Sequence[str], of: type) -> np.ndarray:
    if of is float:
        found = [[cell if _is_number(cell := row.get(n)) else np.nan for n in names] for row in rows]
        return np.array(found, dtype=np.float64)
    return np.array([["" if is_missing(c := row.get(n)) else str(c) for n in names] for row in rows], dtype=object)


cheap = (Cheap(name="columns", of=columns), Cheap(name="columns, boosted trees", of=columns, by="trees"))
