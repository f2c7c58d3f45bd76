"""One graph whose nodes are the rows: features, edges, and, where there are any, labels and a public split.

Two forms are read.

``NAME.npz``: ``edges`` (2, E) node numbers, each undirected edge once or twice; ``features`` (N, F), or a sparse matrix
as ``feat_data``, ``feat_indices``, ``feat_indptr``, ``feat_shape`` (CSR; one value in ``feat_data`` means all); perhaps
``labels`` (N,) with -1 for none, and ``train_idx``, ``val_idx``, ``test_idx``.

A folder with ``nodes.csv`` (``id``, perhaps ``label`` and ``split``; every other column is a feature, a number) and
``edges.csv`` (two columns of ids: ``source``, ``target``).
"""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import numpy as np

from counterpoint.data.fingerprint import of_arrays
from counterpoint.data.log import Log
from counterpoint.data.rowset import Numbered
from counterpoint.data.sampler import Sampler, Together
from counterpoint.data.schema import Known, Row, RowSet, Schema
from counterpoint.errors import ConfigError, DataError
from counterpoint.modalities.graph import GRAPH, Features, Graph, Node

PARTS = ("train", "dev", "test")


class Nodes(Numbered):
    """The nodes of a graph as rows: ``{"node": Node, "label": int (where it has one), "row": number}``.

    What `counterpoint.data.rows.Rows` is for tables; a batch is all of them, since every node is read with its
    neighbours.

    graph: with all its nodes. log: of the rows (None: a new one). index: ``(M,)`` numbers of the nodes that are rows
    (None: all).
    """

    whole = True

    def __init__(self, graph: Graph, *, log: Log | None = None, index: np.ndarray | None = None) -> None:
        self.graph, self.log = graph, Log() if log is None else log
        self.index = np.arange(len(graph)) if index is None else index
        edges = graph.edges.shape[1] // 2
        self.schema = Schema(
            kind=GRAPH,
            columns={"node": "node", **({} if graph.labels is None else {"label": "label"})},
            modalities={"node": GRAPH},
            labels=graph.names,
            why=f"graph: {len(graph):,} nodes with {graph.features.shape[1]:,} features and {edges:,} edges.",
        )

    def fingerprint(self) -> int:
        """32 bits of the features, the edges and the labels."""
        return of_arrays(self.graph.features, self.graph.edges, self.graph.labels)

    def _row(self, number: int) -> Row:
        row: Row = {"node": Node(self.graph, number), "row": number}
        if self.graph.labels is not None and self.graph.labels[number] >= 0:
            row["label"] = int(self.graph.labels[number])
        return row

    def known(self, modality: str) -> Known:
        """How many features a node has."""
        return Known(width=self.graph.features.shape[1])

    def taught(self) -> RowSet | None:
        """The nodes with a label in the training part of the split."""
        found = self.labelled("train")
        return found if len(found) else None

    def sampler(self, batch: int, seed: int) -> Sampler:
        """All nodes in every batch. Raises `ConfigError` for a batch of some of them.

        batch: the number of the nodes. seed: changes nothing."""
        if batch != len(self):
            raise ConfigError(
                f"batch={batch}: a graph is trained on as a whole, all {len(self):,} nodes in every step. "
                "Leave --batch out."
            )
        return Together(len(self), batch, seed=seed)

    def subset(self, numbers: np.ndarray) -> Nodes:
        """These nodes of the graph.

        numbers: of nodes.
        """
        return Nodes(self.graph, log=self.log, index=np.asarray(numbers, dtype=np.int64))

    def labelled(self, part: str | None = None) -> Nodes:
        """The nodes with a label, of a part of the split (None: of the whole graph)."""
        labels = self.graph.labels
        numbers = np.arange(len(self.graph)) if part is None else np.asarray(self.graph.parts.get(part, ()), np.int64)
        return self.subset(numbers[:0] if labels is None else numbers[labels[numbers] >= 0])


def neighbour_graph(features: np.ndarray, k: int, *, labels: np.ndarray | None = None) -> Graph:
    """The graph in which rows ``(N, F)`` are joined to their k nearest others; labels: (N,), or none.

    features: of the rows. k: neighbours.
    """
    if not 1 <= k < len(features):
        raise DataError(f"{len(features)} rows do not have {k} neighbours each.")
    from sklearn.neighbors import kneighbors_graph

    edges = np.stack(kneighbors_graph(features, k).nonzero())
    names = () if labels is None else tuple(map(str, range(int(labels.max()) + 1)))
    return Graph(features=features.astype(np.float32), edges=edges, labels=labels, names=names)


# --- reading ---------------------------------------------------------------------------------------------------


def holds_graph(path: Path) -> bool:
    """Whether a path is one of the two forms: it may still turn out to be damaged."""
    if path.is_dir():
        return (path / "edges.csv").exists()
    if path.suffix != ".npz" or not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as held:
        return "edges.npy" in held.namelist()


def read_graph(path: Path) -> Graph:
    """The graph of an ``.npz`` file or of a folder with ``nodes.csv`` and ``edges.csv``.

    path: of the file or folder.
    """
    return _tables(path) if path.is_dir() else _arrays(path)


def _arrays(path: Path) -> Graph:
    try:
        with np.load(path, allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as numpy arrays: {error}") from error
    if "features" in arrays:
        features: Features = arrays["features"].astype(np.float32)
        if features.ndim != 2:
            raise DataError(f"{path}: features has shape {features.shape}; expected (N, F), one line per node.")
    elif {"feat_data", "feat_indices", "feat_indptr", "feat_shape"} <= set(arrays):
        columns = arrays["feat_indices"]
        from scipy import sparse

        values = np.broadcast_to(arrays["feat_data"].astype(np.float32), columns.shape).copy()
        try:
            shape = tuple(map(int, arrays["feat_shape"]))
            features = sparse.csr_array((values, columns, arrays["feat_indptr"]), shape=shape)
            features.check_format()
        except ValueError as error:
            raise DataError(f"{path}: the feat_ arrays are no sparse matrix: {error}") from error
    else:
        raise DataError(
            f"{path} holds {', '.join(arrays)} but no node features. Add features (N, F), or a CSR matrix as "
            "feat_data, feat_indices, feat_indptr and feat_shape."
        )
    if "edges" not in arrays:
        raise DataError(f"{path} holds {', '.join(arrays)} but no edges (2, E).")
    labels = arrays["labels"].astype(np.int64) if "labels" in arrays else None
    named = {"train": "train_idx", "dev": "val_idx", "test": "test_idx"}
    return Graph(
        features=features,
        edges=arrays["edges"],
        labels=labels,
        names=() if labels is None else tuple(map(str, range(labels.max() + 1))),
        parts={part: arrays[name].astype(np.int64) for part, name in named.items() if name in arrays},
    )


def _tables(folder: Path) -> Graph:
    nodes, edges = _lines(folder / "nodes.csv"), _lines(folder / "edges.csv")
    if "id" not in nodes:
        raise DataError(f"{folder / 'nodes.csv'} has the columns {', '.join(nodes)}; one of them must be id.")
    number = {name: i for i, name in enumerate(nodes["id"])}
    if len(number) < len(nodes["id"]):
        raise DataError(f"{folder / 'nodes.csv'}: some ids stand there more than once. Give every node one line.")
    ends = [edges[c] for c in ("source", "target")] if {"source", "target"} <= set(edges) else list(edges.values())
    if len(ends) != 2:
        raise DataError(f"{folder / 'edges.csv'} has the columns {', '.join(edges)}; expected source and target.")
    if unknown := next((e for e in (*ends[0], *ends[1]) if e not in number), None):
        raise DataError(f"{folder / 'edges.csv'} names the node {unknown!r}, which nodes.csv does not have.")
    columns = [c for c in nodes if c not in ("id", "label", "split")]
    try:
        features = np.array([nodes[c] for c in columns], dtype=np.float32).reshape(len(columns), len(number)).T
    except ValueError as error:
        raise DataError(f"{folder / 'nodes.csv'}: every column but id, label and split is a number: {error}") from error
    given = nodes.get("label")
    names = tuple(sorted({v for v in given if v})) if given else ()
    classes = {"": -1, **{name: i for i, name in enumerate(names)}}
    split = np.array(nodes.get("split", []))
    aliases = {"val": "dev", "valid": "dev", "validation": "dev"}
    parts = {aliases.get(str(p), str(p)): np.flatnonzero(split == p) for p in np.unique(split) if p}
    return Graph(
        features=np.ascontiguousarray(features),
        edges=np.array([[number[e] for e in end] for end in ends], dtype=np.int64).reshape(2, -1),
        labels=np.array([classes[v] for v in given], dtype=np.int64) if given else None,
        names=names,
        parts={p: numbers for p, numbers in parts.items() if p in PARTS},
    )


def _lines(path: Path) -> dict[str, list[str]]:
    """Column -> its values."""
    if not path.exists():
        raise DataError(f"There is no {path.name} in {path.parent}: a graph is a folder with nodes.csv and edges.csv.")
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = [line for line in csv.reader(file) if line]
    if not lines:
        raise DataError(f"{path} is empty; its first line names the columns.")
    if uneven := next((i for i, line in enumerate(lines) if len(line) != len(lines[0])), None):
        raise DataError(f"{path}, line {uneven + 1}: {len(lines[uneven])} values for {len(lines[0])} columns.")
    return {name.strip(): [line[i].strip() for line in lines[1:]] for i, name in enumerate(lines[0])}
