"""How an encoder of tables bears missing cells: accuracy of a linear probe as more and more of them are taken away.

Source: the protocol of Du et al. 2024 (TIP), arXiv 2407.07582; section on incomplete data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from counterpoint.encoders.base import Encoder
from counterpoint.errors import ConfigError, DataError
from counterpoint.evaluate import probe
from counterpoint.modalities.table import TABLE, Columns, Table

Pattern: TypeAlias = Literal["values", "features", "most", "least"]
"""Which cells are missing. values: any, drawn for each row (RVM). features: whole columns, drawn at random (RFM). most,
least: the most or the least important columns (MIFM, LIFM)."""

RATES = (0.0, 0.3, 0.5, 0.7, 0.9)


def missingness(
    encoder: Encoder,
    train: Sequence[Mapping[str, Any]],
    labels: np.ndarray,
    test: Sequence[Mapping[str, Any]],
    truth: np.ndarray,
    *,
    pattern: Pattern = "values",
    rates: Sequence[float] = RATES,
    draws: int = 1,
    seed: int = 0,
) -> dict[float, float]:
    """Share of missing cells -> accuracy of a linear probe, whose training rows lack as many cells as the test rows.

    train, test: N and N' items of the encoder, a table each, or a mapping that holds one under ``table``. Cells are
    taken away beside those that are missing anyway. labels (N,), truth (N',): their classes. draws: over which the
    accuracy is averaged, where cells are drawn. encoder: of tables. pattern: which cells go: single values, or whole
    columns by importance. rates: shares of missing cells. seed: of all draws.
    """
    if pattern not in get_args(Pattern):
        raise ConfigError(f"There is no pattern {pattern!r}. Type one of: {', '.join(get_args(Pattern))}.")
    if bad := [rate for rate in rates if not 0 <= rate < 1]:
        raise ConfigError(f"A rate of {bad[0]} is no share of cells that leaves any: give numbers from 0 to below 1.")
    names = list(dict.fromkeys(name for item in train for name in table_of(item)))
    order = None
    if pattern in ("most", "least"):
        weight = importance([table_of(item) for item in train], labels, seed=seed)
        order = sorted(names, key=lambda name: -weight[name] if pattern == "most" else weight[name])
        draws = 1
    out: dict[float, float] = {}
    for rate in rates:
        found = []
        for draw in range(draws if rate else 1):
            rng = np.random.default_rng([seed, draw])
            gone = order if order is not None or pattern == "values" else list(rng.permutation(names))
            known, unseen = (hide(items, rate, rng, order=gone, names=names) for items in (train, test))
            z = [encoder.encode(items, normalize=False) for items in (known, unseen)]
            found.append(float((probe.predict(z[0], labels, z[1], seed=seed).predicted == truth).mean()))
        out[rate] = float(np.mean(found))
    return out


def hide(
    items: Sequence[Mapping[str, Any]],
    rate: float,
    rng: np.random.Generator,
    *,
    order: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """The items with ``rate`` of their cells missing: in every row the first columns of ``order``, that share of them
    rounded; without an order, each cell of ``names`` (None: of the row) with that probability.

    items: as of `missingness`. rng: every draw comes from it.

    >>> hide([{"age": 30, "city": "Rome"}], 0.5, np.random.default_rng(0), order=["city", "age"])
    [{'age': 30, 'city': None}]
    """
    out = []
    gone = None if order is None else set(order[: round(rate * len(order))])
    for item in items:
        table = table_of(item)
        some = [n for n in (names or table) if rng.random() < rate] if gone is None else gone
        left = {name: None if name in some else cell for name, cell in table.items()}
        out.append({**item, TABLE: left} if _holds_table(item) else left)
    return out


def importance(tables: Sequence[Table], labels: np.ndarray, *, trees: int = 200, seed: int = 0) -> dict[str, float]:
    """Column -> how much a random forest leans on it to tell the classes apart (decrease of impurity; their sum is 1).

    A missing number counts as the mean, a missing category as one of its own.

    tables: N rows. labels: ``(N,)``. trees: of the forest. seed: of the forest.

    >>> rows = [{"x": float(i % 2), "noise": 0.5} for i in range(20)]
    >>> importance(rows, np.arange(20) % 2, trees=5)["x"]
    1.0
    """
    if len(tables) != len(labels) or not len(tables):
        raise DataError(f"{len(tables)} tables and {len(labels)} labels were given; each table needs its label.")
    names = list(dict.fromkeys(name for table in tables for name in table))
    columns = Columns.fit({name: [table.get(name) for table in tables] for name in names})
    cells = columns.read(tables)
    k = len(columns.categories)
    codes = cells["codes"].masked_fill(cells["missing"][:, :k], -1)
    x = np.concatenate((codes.numpy(), cells["values"].numpy()), axis=1)
    forest = RandomForestClassifier(trees, random_state=seed, n_jobs=1).fit(x, labels)
    return dict(zip(columns.names, map(float, forest.feature_importances_)))


def table_of(item: Mapping[str, Any]) -> Table:
    """The table of an item: what it holds under ``table``, or itself."""
    table: Table = item[TABLE] if _holds_table(item) else item
    return table


def _holds_table(item: Mapping[str, Any]) -> bool:
    return isinstance(item.get(TABLE), Mapping)
