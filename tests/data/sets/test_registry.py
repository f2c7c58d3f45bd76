"""Named data sets: complete entries, a clear error without a copy, and a true reading of each copy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from counterpoint.data.files.read import read
from counterpoint.data.infer import infer
from counterpoint.data.log import Log
from counterpoint.data.rows import Rows
from counterpoint.data.sets import docstrings, registry
from counterpoint.data.sets.beir import Retrieval
from counterpoint.data.windows import Series
from counterpoint.errors import DataError
from counterpoint.modalities.graph import Graph

NEEDS_DATA = pytest.mark.skipif("COUNTERPOINT_DATA" not in os.environ, reason="COUNTERPOINT_DATA is not set")
KINDS = {
    "texts": "texts", "pairs": "pairs", "similarity": "scored", "classification": "labelled",
    "clustering": "labelled", "towers": "towers", "dna": "items",
}  # fmt: skip


@pytest.mark.parametrize("name", registry.ENTRIES)
def test_entries_are_complete(name: str) -> None:
    entry = registry.ENTRIES[name]
    assert entry.title
    assert entry.source
    assert entry.licence
    assert not Path(entry.path).is_absolute()
    assert entry.task == "retrieval" or entry.columns
    described = registry.describe(name)
    assert entry.title in described
    assert entry.licence in described


def test_a_set_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("COUNTERPOINT_DATA", raising=False)
    with pytest.raises(DataError, match=r"COUNTERPOINT_DATA is not set.*wiki-split.*licence: CC BY-SA"):
        registry.load("english-sentences")
    monkeypatch.setenv("COUNTERPOINT_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"does not exist.*github.com/terrier-org.*FOLDER/retrieval/npl"):
        registry.load("npl")
    with pytest.raises(DataError, match=r"no data set 'stsb'.*stsb-en"):
        registry.load("stsb")
    with pytest.raises(DataError, match="stsb-en has the splits train, dev, test, not 'validation'"):
        registry.load("stsb-en", "validation")
    with pytest.raises(DataError, match="mr has no splits"):
        registry.load("mr", "test")


@NEEDS_DATA
@pytest.mark.parametrize("name", registry.ENTRIES)
def test_copies_are_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Some files of each package will do: to parse all of them takes half a minute.
    files = docstrings.source_files
    monkeypatch.setattr(docstrings, "source_files", lambda folder: list(files(folder))[:30])
    entry = registry.ENTRIES[name]
    if entry.local is None:
        pytest.skip(f"no local copy of {name}")
    found = registry.load(name, "test" if "test" in entry.splits else None)
    if isinstance(found, Retrieval):
        assert all(d in found.corpus for gains in found.qrels.values() for d in gains)
        assert set(found.queries) == set(found.qrels)
        return
    assert len(found) > 50
    if isinstance(found, Series):
        assert len(found) == (7_588 if name == "exchange-rate" else 17_420)
        assert list(found.names) == entry.columns["series"]
        return
    if isinstance(found, Graph):
        assert (found.degrees > 0).mean() > 0.8  # some have papers without a neighbour
        assert found.labels is not None
        return
    if entry.task == "audio":
        clip = found[0]
        assert 1_000 < len(clip["audio"]) < 8 * clip["rate"]
        return
    rows = Rows(found, infer(found, columns=entry.columns))
    assert rows.schema.kind == KINDS[entry.task]
    assert len(rows) > 0.99 * len(found)
    assert set(rows[0]) >= set(entry.columns)


@NEEDS_DATA
def test_what_is_known_of_the_copies() -> None:
    assert len(registry.load("stsb-en")) == 8_409
    cranfield = registry.load("cranfield")
    assert (len(cranfield.corpus), len(cranfield.queries)) == (1_400, 180)
    assert max(g for gains in cranfield.qrels.values() for g in gains.values()) == 4
    nli = registry.load("nli", "test")
    assert all(r["hypothesis"] not in r["negatives"] for r in nli)
    assert len(registry.load("mnist", "test")) == 2_000
    assert registry.load("fashion-mnist", "test").features["label"].names[9] == "Ankle boot"
    assert registry.load("omniglot").unique("label").__len__() == 242
    assert sorted(set(registry.load("spoken-digits", "test")["label"])) == list(range(10))


@NEEDS_DATA
def test_names_are_sources() -> None:
    log = Log()
    assert len(read("stsb-en", log=log)) == 5_749
    assert any("train is used" in line for line in log.lines())
    assert len(read("stsb-en", split="all")) == 8_409
    assert len(read("mr")) == 10_662
    with pytest.raises(DataError, match="counterpoint eval MODEL cranfield"):
        read("cranfield")
