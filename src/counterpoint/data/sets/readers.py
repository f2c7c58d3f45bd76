"""How the registry's local copies become rows: a reader takes (path, split) and gives a `datasets.Dataset`."""

from __future__ import annotations

import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from counterpoint.data.files import formats, media
from counterpoint.modalities import image as images

if TYPE_CHECKING:
    import datasets


def _table(path: Path, split: str | None) -> pa.Table:
    table = pa.concat_tables(list(formats.tables(path)), promote_options="permissive").combine_chunks()
    return table if split is None else table.filter(pc.equal(table["split"], split))


def _remade(path: Path, split: str | None, remake: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Any:
    import datasets

    return datasets.Dataset(pa.Table.from_pylist(remake(_table(path, split).to_pylist())))


def rows(path: Path, split: str | None) -> datasets.Dataset:
    """A file of rows, with a column ``split`` where it has splits.

    path: of the file. split: its name (None: all rows).
    """
    import datasets

    return datasets.Dataset(_table(path, split))


def entailment(path: Path, split: str | None) -> datasets.Dataset:
    """SNLI as pairs: a premise, a hypothesis that follows from it, and those that contradict it.

    path: of the file. split: its name (None: all rows).
    """

    def remake(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        contradicted = defaultdict(list)
        for row in found:
            if row["label"] == "contradiction":
                contradicted[row["premise"]].append(row["hypothesis"])
        return [
            {"premise": r["premise"], "hypothesis": r["hypothesis"], "negatives": contradicted[r["premise"]]}
            for r in found
            if r["label"] == "entailment"
        ]

    return _remade(path, split, remake)  # type: ignore[no-any-return]


def captions(path: Path, split: str | None) -> datasets.Dataset:
    """Groups of captions as pairs: the first and the second; the whole group stays in ``captions``.

    path: of the file. split: its name (None: all rows).
    """

    def remake(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"anchor": r["captions"][0], "positive": r["captions"][1], "captions": r["captions"]} for r in found]

    return _remade(path, split, remake)  # type: ignore[no-any-return]


def wordnet(path: Path, split: str | None) -> datasets.Dataset:
    """Synsets as pairs: their words, and the definition.

    path: of the file. split: its name (None: all rows).
    """

    def remake(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        keep = ("synset", "pos", "lexname", "words", "definition", "examples", "hypernyms")
        return [{"word": ", ".join(r["words"]).replace("_", " "), **{k: r[k] for k in keep}} for r in found]

    return _remade(path, split, remake)  # type: ignore[no-any-return]


def matching(path: Path, split: str | None) -> datasets.Dataset:
    """Two records, each as ``attribute: value`` without the empty ones, and whether they are the same thing.

    path: of the folder. split: its name (None: all rows).
    """

    def text(record: dict[str, Any]) -> str:
        return "; ".join(f"{k}: {v}" for k, v in record.items() if v)

    def remake(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"left": text(r["left"]), "right": text(r["right"]), "label": r["label"]} for r in found]

    return _remade(path, split, remake)  # type: ignore[no-any-return]


def dialogues(path: Path, split: str | None) -> datasets.Dataset:
    """Task dialogues, each as one text, ``user: ... system: ...``, with the services that it is about.

    path: of the folder. split: its name (None: all rows).
    """
    import datasets

    parts = [split] if split else ["train", "dev", "test"]
    found = [row for part in parts for row in _table(path / f"sgd_{part}.jsonl.gz", None).to_pylist()]
    texts = [" ".join(f"{t['speaker'].lower()}: {t['utterance']}" for t in row["turns"]) for row in found]
    return datasets.Dataset.from_dict(
        {"text": texts, "dialogue_id": [r["dialogue_id"] for r in found], "services": [r["services"] for r in found]}
    )


def zipped_classes(path: Path, split: str | None) -> datasets.Dataset:
    """A zip of ``<split>/<class>/<image>``.

    path: of the file. split: its name (None: all rows).
    """
    import datasets

    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if not n.endswith("/") and (split is None or n.startswith(f"{split}/"))]
        classes = sorted({n.split("/")[1] for n in names})
        return media.dataset(
            {
                "image": [{"bytes": archive.read(n), "path": n} for n in names],
                "label": [classes.index(n.split("/")[1]) for n in names],
            },
            label=datasets.ClassLabel(names=classes),
        )


def zipped_pictures(path: Path, split: str | None) -> datasets.Dataset:
    """A folder with one file of rows, whose column ``image`` names members of the ``images*.zip`` beside it.

    path: of the folder. split: its name (None: all rows).
    """
    table = _table(next(iter(sorted(path.glob("*.jsonl.gz")))), split)
    with zipfile.ZipFile(next(iter(sorted(path.glob("images*.zip"))))) as archive:
        pictures = [{"bytes": archive.read(n), "path": n} for n in table["image"].to_pylist()]
    rest = {n: table[n].combine_chunks() for n in table.column_names if n != "image"}
    return media.dataset({"image": pictures, **rest})


def houses(path: Path, split: str | None) -> datasets.Dataset:
    """Houses: four of their rooms in one picture of 128 x 128 pixels, and their table; a zip code is a text.

    path: of the folder. split: its name (None: all rows).
    """
    table = _table(path / "houses.csv.gz", split)
    pictures = []
    with zipfile.ZipFile(path / "images_64.zip") as archive:
        for house in table["house"].to_pylist():
            rooms = (archive.read(f"{house}_{room}.jpg") for room in ("frontal", "bedroom", "bathroom", "kitchen"))
            a, b, c, d = (np.asarray(images.decode(room).convert("RGB")) for room in rooms)
            pictures.append(images.encode_png(np.concatenate([np.concatenate([a, b], 1), np.concatenate([c, d], 1)])))
    rest = {name: table[name].combine_chunks() for name in table.column_names}
    rest["zipcode"] = rest["zipcode"].cast(pa.string())
    return media.dataset({"image": pictures, **rest})


def furniture(path: Path, split: str | None) -> datasets.Dataset:
    """Pictures of furniture, and what the catalogue says of each; sizes in cm, as logarithms like the faces.

    path: of the folder. split: its name (None: all rows).
    """
    table = _table(path / "index.jsonl.gz", split)
    with zipfile.ZipFile(path / "icons_64.zip") as archive:
        pictures = [{"bytes": archive.read(n), "path": n} for n in table["image"].to_pylist()]
    sizes = np.log(np.array(table["size_cm"].to_pylist(), dtype=np.float64))
    numbers = {name: sizes[:, i] for i, name in enumerate(("log_width", "log_depth", "log_height"))}
    numbers["log_faces"] = np.log(table["n_faces"].to_numpy())
    kept = ("catalog", "licence", "creator", "name", "category", "split")
    rest = {name: table[name].combine_chunks() for name in kept}
    return media.dataset({"image": pictures, **rest, **numbers})


def arrays(path: Path, split: str | None) -> datasets.Dataset:
    """An .npz of x_train, y_train, x_test, y_test (uint8), perhaps class_names.

    path: of the file. split: its name (None: all rows).
    """
    import datasets

    with np.load(path, allow_pickle=False) as file:
        parts = [split] if split else ["train", "test"]
        x = np.concatenate([file[f"x_{p}"] for p in parts])
        y = np.concatenate([file[f"y_{p}"] for p in parts]).astype(np.int64)
        names = [str(n) for n in file["class_names"]] if "class_names" in file else [str(i) for i in range(10)]
    columns = {"image": [images.encode_png(a) for a in x], "label": y}
    return media.dataset(columns, label=datasets.ClassLabel(names=names))


def omniglot(path: Path, split: str | None) -> datasets.Dataset:
    """Packed 105x105 drawings, black ink on white; label = character, with alphabet and drawer.

    path: of the file. split: its name (None: all rows).
    """
    with np.load(path, allow_pickle=False) as file:
        ink = np.unpackbits(file["bits"], axis=1)[:, : 105 * 105].reshape(-1, 105, 105)
        drawer, number = file["drawer"].astype(np.int64), file["alphabet"].astype(np.int64)
        character = file["character"].astype(np.int64)
        alphabets = [str(file["alphabet_names"][i]) for i in number]
    columns = {
        "image": [images.encode_png((255 * (1 - a)).astype(np.uint8)) for a in ink],
        "label": [f"{a}/{c:03d}" for a, c in zip(alphabets, character)],
        "alphabet": alphabets,
        "drawer": drawer,
    }
    return media.dataset(columns)


def spoken_digits(path: Path, split: str | None) -> datasets.Dataset:
    """Clips as int16 samples with their rate in hertz; label = digit, with the speaker.

    path: of the file. split: its name (None: all rows).
    """
    import datasets

    tables = []
    for name in [split] if split else ["train", "test"]:
        with np.load(path / f"{name}.npz", allow_pickle=False) as file:
            offsets = pa.array(file["offsets"], type=pa.int64())
            tables.append(
                pa.table(
                    {
                        "audio": pa.LargeListArray.from_arrays(offsets, pa.array(file["samples"])),
                        "rate": np.full(len(offsets) - 1, int(file["sample_rate"])),
                        "label": file["digit"].astype(np.int64),
                        "speaker": [str(file["speaker_names"][s]) for s in file["speaker"]],
                    }
                )
            )
    return datasets.Dataset(pa.concat_tables(tables))
