"""Damaged model folders: whatever is wrong with them, a sentence names the file; never another exception."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from counterpoint import load
from counterpoint.encoders import folder
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.cross import CrossEncoder
from counterpoint.encoders.image import ConvNet
from counterpoint.encoders.query import StaticQueries
from counterpoint.encoders.staged import Staged
from counterpoint.errors import CounterpointError, ModelError
from tests.encoders.samples import TEXTS, static, transformer

MUTATIONS = 200
WORDS: list[Any] = [None, True, 0, -1, 10**9, 10**30, 1.5, float("nan"), "", "x", [], {}, [[]], {"a": 1}, ["a"]]
BUILDS: dict[str, Callable[[], Encoder]] = {
    "static": static,
    "transformer": lambda: transformer(prompts={"query": "the "}),
    "theirs": transformer,  # without our card: as sentence-transformers would have written it
    "staged": Staged.example,
    "convnet": ConvNet.example,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    for name, build in BUILDS.items():
        folder.save(build(), root / name)
    (root / "theirs" / folder.CARD).unlink()
    return root


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a JSON document."""
    if at:
        yield at
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*at, key))


def damage(path: Path, rng: random.Random) -> str:
    """Change one file; says how."""
    raw = path.read_bytes()
    if path.suffix != ".json" or rng.random() < 0.3:
        how = rng.choice(["cut", "empty", "bytes", "deep"])
        changed = bytearray(raw)
        for _ in range(5):
            changed[rng.randrange(min(len(raw), 2_000))] = rng.randrange(256)
        made = {"cut": raw[: rng.randrange(len(raw))], "empty": b"", "bytes": bytes(changed), "deep": b"[" * 50_000}
        path.write_bytes(made[how])
        return f"{path.name} {how}"
    document = json.loads(raw)
    found = list(places(document))
    at = rng.choice(found[:300] if rng.random() < 0.7 else found)
    holder = document
    for key in at[:-1]:
        holder = holder[key]
    value = holder[at[-1]]
    if isinstance(value, int | float) and rng.random() < 0.4:
        holder[at[-1]] = value * rng.choice([2, -1, 10**6, 10**9])
    elif rng.random() < 0.2:
        del holder[at[-1]]
    else:
        holder[at[-1]] = rng.choice(WORDS)
    path.write_text(json.dumps(document))
    return f"{path.name} {at}"


@pytest.mark.filterwarnings("ignore")
def test_only_sentences_come_out(folders: Path, tmp_path: Path) -> None:
    rng = random.Random(20)
    refused = 0
    for i in range(MUTATIONS):
        name = rng.choice(sorted(BUILDS))
        work = tmp_path / str(i)
        shutil.copytree(folders / name, work)
        files = [p for p in sorted(work.rglob("*")) if p.is_file() and p.suffix != ".md"]
        said = [damage(path, rng) for path in rng.sample(files, rng.choice([1, 1, 1, 2]))]
        try:
            z = load(work).encode(np.zeros((2, 16, 16, 3), np.uint8) if name == "convnet" else TEXTS[:2])
            assert np.isfinite(z).all()
        except CounterpointError as error:
            refused += 1
            if isinstance(error, ModelError) and str(work) not in str(error):
                raise AssertionError(f"{name}: {said}") from error
        except BaseException as error:
            raise AssertionError(f"{name}: {said}") from error
        shutil.rmtree(work)
    assert refused > MUTATIONS / 3


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("name", "file", "content", "says"),
    [
        ("static", "counterpoint.json", "", "counterpoint.json cannot be read as JSON"),
        ("static", "counterpoint.json", DEEP, "nested too deeply"),
        ("static", "counterpoint.json", "[]", r"counterpoint.json holds \[\]"),
        ("static", "counterpoint.json", '{"kind": ["static-text"], "config": {}}', "'kind', holds"),
        ("static", "counterpoint.json", '{"kind": "static-text"}', "does not say the config"),
        ("static", "tokenizer.json", "{", "tokenizer.json cannot be read as JSON .*line 1"),
        ("static", "tokenizer.json", "{}", "tokenizer.json cannot be read as a tokenizer"),
        ("static", "tokenizer_config.json", "[]", "tokenizer_config.json holds"),
        ("static", "model.safetensors", "", "weights .*model.safetensors cannot be read"),
        ("static", "model.safetensors", "\xff" * 40, "weights .*model.safetensors cannot be read"),
        ("transformer", "config.json", "3", "config.json holds 3"),
        ("transformer", "config.json", '{"model_type": "no-such-model"}', "config.json cannot be read"),
        ("transformer", "config.json", '{"model_type": "bert", "num_hidden_layers": 1000000000}', "num_hidden_layers"),
        ("theirs", "modules.json", "{}", r"modules.json holds \{\}"),
        ("theirs", "modules.json", '[{"path": ""}]', "modules.json, entry 0, 'type'"),
        ("theirs", "1_Pooling/config.json", "null", "1_Pooling/config.json holds None"),
        ("theirs", "config_sentence_transformers.json", "{", "config_sentence_transformers.json cannot be read"),
        ("theirs", "sentence_bert_config.json", '{"max_seq_length": "9"}', "'max_seq_length', holds '9'"),
    ],
)
def test_the_file_and_the_place_are_named(
    folders: Path, tmp_path: Path, name: str, file: str, content: str, says: str
) -> None:
    shutil.copytree(folders / name, tmp_path / "m")
    (tmp_path / "m" / file).write_text(content, encoding="latin-1")
    with pytest.raises(ModelError, match=says) as caught:
        load(tmp_path / "m")
    assert "again" in str(caught.value) or "upgrade" in str(caught.value) or "damaged" in str(caught.value)


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("field", ["dim", "vocabulary"])
@pytest.mark.parametrize("value", [5_000_000, 10**15, -4, "16", 1.5, None, True])
def test_a_configuration_of_another_size_or_type_is_refused_at_once(
    folders: Path, tmp_path: Path, field: str, value: Any
) -> None:
    shutil.copytree(folders / "static", tmp_path / "m")
    card = tmp_path / "m" / folder.CARD
    held = json.loads(card.read_text())["config"]
    changed(card, config=held | {field: value})
    if field == "vocabulary" and value in (5_000_000, -4):  # how many were asked for: nothing depends on it any more
        assert load(tmp_path / "m").encode("a dog").shape == (16,)
        return
    with pytest.raises(ModelError, match=rf"{field}=|does not fit|far larger than its weights"):
        load(tmp_path / "m")


def test_settings_beside_the_configuration_have_types_too(folders: Path, tmp_path: Path) -> None:
    for name, value in (("normalize", "false"), ("prompts", ["a"]), ("prompts", {"query": 1}), ("dim", 17)):
        work = tmp_path / f"{name}{value}".replace("/", "")
        shutil.copytree(folders / "static", work)
        changed(work / folder.CARD, **{name: value})
        with pytest.raises(ModelError, match=name):
            load(work)


def test_a_token_without_an_embedding_is_named(folders: Path, tmp_path: Path) -> None:
    for name in ("static", "transformer"):
        work = tmp_path / name
        shutil.copytree(folders / name, work)
        document = json.loads((work / "tokenizer.json").read_text())
        document["model"]["vocab"]["dog"] = 100_000
        (work / "tokenizer.json").write_text(json.dumps(document))
        with pytest.raises(ModelError, match=r"token 100,000 \('dog'\).*do not belong together"):
            load(work).encode(["a dog"])
        assert load(work).encode(["the cat"]).shape[0] == 1
        document["model"]["vocab"]["dog"] = 10**9  # a table of so many would be made
        (work / "tokenizer.json").write_text(json.dumps(document))
        with pytest.raises(ModelError, match=r"tokenizer\.json gives a token the number 1000000000"):
            load(work)


def test_readers_beside_the_folders_own_have_the_same_border(folders: Path, tmp_path: Path) -> None:
    for name, read in (("transformer", CrossEncoder.from_pretrained), ("static", StaticQueries.read)):
        work = tmp_path / name
        shutil.copytree(folders / name, work)
        (work / "tokenizer.json").write_text('{"model": 3}')
        with pytest.raises(ModelError, match="tokenizer"):
            read(work)
