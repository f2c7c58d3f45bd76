"""The three losses written out; when nspt is exactly nothing; what the teacher is and when; rows of recordings, their
intents, transcripts and tasks, from a folder to a model."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import wavfile
from torch.nn import functional as F

from counterpoint.data.files.read import read
from counterpoint.data.infer import infer
from counterpoint.data.loader import Loader
from counterpoint.data.rows import Rows
from counterpoint.data.rowset import Made
from counterpoint.data.sampler import InTurn
from counterpoint.decode.generate import decoder
from counterpoint.encoders.audio import AudioTransformer, AudioTransformerConfig
from counterpoint.encoders.byte_vocabulary import BEGIN, END, FIRST, WORDS
from counterpoint.errors import ConfigError, DataError
from counterpoint.methods.signals.coconut import Coconut, Config
from counterpoint.modalities.audio import Recording
from counterpoint.objectives.sides import sided_contrast
from counterpoint.train.config import TrainConfig
from counterpoint.train.loop import Trainer
from counterpoint.workflow.fit import fit
from tests.processes import spread

SMALL = AudioTransformerConfig(rate=8000, bands=16, channels=4, blocks="transformer", dim=16, depth=1, heads=2)
TINY = {"labels": ("a", "b", "c", "d"), "tasks": 2, "memory": 8, "replay": 1.0, "projection": 8, "width": 16,
        "depth": 1, "heads": 2, "longest": 10}  # fmt: skip


def build(seed=0, **settings):
    torch.manual_seed(seed)
    return Coconut(AudioTransformer(SMALL), Config(**(TINY | settings)))


def rows(labels, first=0, text="go {}", **more):
    made = []
    for i, label in enumerate(labels, first):
        rng = np.random.default_rng(i)
        wave = 0.1 * rng.normal(size=int(rng.integers(2000, 4000))) + np.sin(np.arange(1)[0] + label)
        heard = Recording(wave.astype(np.float32), 8000)
        made.append({"audio": heard, "label": label, "text": text and text.format(label), "row": i, **more})
    return made


def batch_of(method, *given, **more):
    return method.views(rows(*given, **more), np.random.default_rng(0))


def second_task(method):
    """A method that has seen the classes 0 and 1, and moved on a little since."""
    method.losses(batch_of(method, [0, 0, 1, 1, 1]))
    method.begin(1)
    with torch.no_grad():
        for p in (*method.encoder.parameters(), *method.projection.parameters()):
            p.add_(0.05 * torch.randn_like(p))
    return method


# --- nspt ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sides", [("teacher", "student"), ("teacher", "teacher"), ("student", "student")])
def test_the_sides_are_those_of_student_and_teacher(sides):
    positives, negatives = sides
    method = second_task(build(positives=positives, negatives=negatives, mm=0.0))
    new = batch_of(method, [2, 3, 3], first=50)
    torch.manual_seed(3)
    found = method.losses(new)["nspt"]
    torch.manual_seed(3)
    old = method.memory.draw(3)
    y = torch.cat((new.labels["label"], old.labels))
    frames = [F.pad(x, (0, 0, 0, 99 - x.shape[1])) for x in (new.views[0].data["frames"], old.data["frames"])]
    masks = [F.pad(x, (0, 99 - x.shape[1])) for x in (new.views[0].data["attention_mask"], old.data["attention_mask"])]
    data = {"frames": torch.cat(frames), "attention_mask": torch.cat(masks)}
    h, g = (F.normalize(m(data), dim=-1) for m in (method.student, method.teacher))
    assert not torch.allclose(h, g, atol=1e-3)
    sided = {"student": h, "teacher": g}
    expected = sided_contrast(
        h[3:], sided[positives][3:], sided[negatives], labels=y[3:], negative_labels=y,
        scale=10.0, itself=positives == "teacher",
    )  # fmt: skip
    torch.testing.assert_close(found, expected * 2 / 4)  # two classes of four are old


def test_nspt_is_nothing_in_the_first_task_and_without_rehearsal():
    for method, labels in ((build(), [0, 1, 1]), (second_task(build(replay=0.0)), [2, 3])):
        loss = method.losses(batch_of(method, labels, first=50))["nspt"]
        assert float(loss.detach()) == 0.0
        loss.backward()
        assert all(p.grad is None or (p.grad == 0).all() for p in method.parameters())


def test_herding_rehearses_what_is_near_the_mean_of_its_class():
    method = build(choice="herding", memory=4)
    method.losses(batch_of(method, [0] * 6 + [1]))
    h, memory = method.observed["anchor"][:6], method.memory
    near = (h - h.mean(0)).square().sum(1).argsort()[:2]
    assert set(memory.rows[memory.labels == 0].tolist()) == set(near.tolist())


def test_the_teacher_is_frozen_whole_and_of_the_end_of_the_last_task():
    method = build().train()
    method.losses(batch_of(method, [0, 1]))
    with torch.no_grad():
        for p in method.student.parameters():
            p.add_(0.1)
    now = [p.clone() for p in method.student.parameters()]
    method.begin(0)
    assert any(not torch.equal(a, b) for a, b in zip(method.teacher.model.parameters(), now, strict=True))
    loss = method.losses(batch_of(method, [2, 3], first=9))["nspt"]  # the first batch of the next task
    for a, b in zip(method.teacher.model.parameters(), now, strict=True):  # the projection among them
        assert torch.equal(a, b)
        assert not a.requires_grad
    loss.backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert not any(m.training for m in method.teacher.modules() if m is not method.teacher)


# --- the other losses ------------------------------------------------------------------------------------------------


def test_mm_written_out_without_those_that_have_no_transcript():
    method = build(nspt=0.0, mm=0.7)
    given = rows([0, 1, 2, 3])
    given[1]["text"] = None
    batch = method.views(given, np.random.default_rng(0))
    found = method.losses(batch)["mm"]
    h = F.normalize(method.student(batch.views[0].data), dim=-1)
    ids = [[WORDS + i, *(FIRST + b for b in f"go {i}".encode())] for i in (0, 2, 3)]
    words = torch.stack([method.decoder.embedding(torch.tensor(i)).mean(0) for i in ids])
    t = F.normalize(method.text(words), dim=-1)
    s = h[[0, 2, 3]] @ t.T * 10
    expected = F.cross_entropy(s, torch.arange(3)) + F.cross_entropy(s.T, torch.arange(3))
    torch.testing.assert_close(found, 0.7 * expected)


def test_mm_has_new_recordings_as_anchors_and_all_as_candidates():
    method = second_task(build(nspt=0.0, mm=1.0))
    new = batch_of(method, [2, 3, 3], first=50)
    torch.manual_seed(3)
    found = method.losses(new)["mm"]
    h, t = method.observed["anchor"], method.observed["positive"]
    assert len(h) == 6
    s = h @ t.T * 10
    expected = F.cross_entropy(s[:3], torch.arange(3)) + F.cross_entropy(s.T[:3], torch.arange(3))
    torch.testing.assert_close(found.detach(), expected)


def test_ce_is_of_intent_transcript_and_end_of_what_is_new_and_rehearsed():
    method = build(nspt=0.0, mm=0.0)
    given = rows([0, 3])
    given[1]["text"] = " "
    batch = method.views(given, np.random.default_rng(0))
    assert batch.labels["said"].tolist() == [
        [WORDS, *(FIRST + b for b in b"go 0"), END],
        [WORDS + 3, 0, 0, 0, 0, 0],  # nobody knows where an unknown transcript ends
    ]
    places, there = method.encoder.tokens(batch.views[0].data)
    before = torch.tensor([[BEGIN, *batch.labels["said"][0, :-1].tolist()], [BEGIN] + 5 * [0]])
    log_p = method.decoder(before, places, there).log_softmax(-1)
    terms = [log_p[0, i, t] for i, t in enumerate(batch.labels["said"][0])] + [log_p[1, 0, WORDS + 3]]
    torch.testing.assert_close(method.losses(batch)["ce"], -sum(terms) / 7)


def test_long_transcripts_are_cut():
    assert build().tokens(1, "a" * 50) == [WORDS + 1, *[FIRST + 97] * 10, END]


def test_without_memory_nothing_is_rehearsed():
    method = build(memory=0)
    assert method.teacher is None
    method.losses(batch_of(method, [0, 1]))
    assert set(method.losses(batch_of(method, [2, 3], first=9))) == {"ce", "mm"}
    assert len(method.observed["anchor"]) == 2


def test_company_does_not_change_what_is_understood():
    method = build().eval()
    heard = [r["audio"] for r in rows([0, 1, 2])]
    together = method.understand(heard, max_new=4)
    assert together == [method.understand([x], max_new=4)[0] for x in heard]
    beamed = method.understand(heard, decoder("beam", width=3), max_new=4)
    assert [intent for intent, _ in beamed] == [intent for intent, _ in together]
    assert [method.config.labels.index(intent) for intent, _ in together] == method.intents(heard).tolist()


def test_what_is_refused():
    with pytest.raises(ConfigError, match="at least two"):
        build(labels=())
    with pytest.raises(ConfigError, match="at least 4"):
        build(memory=3)
    with pytest.raises(ConfigError, match="student or teacher"):
        build(positives="parent")
    method = build()
    method.losses(batch_of(method, [0, 1], task=0))
    # A row of an old class is a rehearsed one, wherever it comes from; it is not taken in again.
    method.losses(batch_of(method, [1, 2], first=9, task=1))
    assert 9 not in method.memory.rows


# --- runs ------------------------------------------------------------------------------------------------------------


def trainer(folder=None, resume=False, **more):
    made = rows([0, 1, 2, 3] * 4)
    labels = np.array([r["label"] for r in made])
    config = TrainConfig(batch=4, steps=8, lr=1e-2, stop_on_collapse=False, progress=False, device="cpu", **more)
    method = build()
    loader = Loader(Made(made), InTurn(labels, labels // 2, 4, steps=8))
    return method, Trainer(method, loader, config, folder=folder, resume=resume)


def test_a_run_that_is_resumed_has_the_memory_and_the_teacher_it_had(tmp_path: Path):
    whole, run = trainer()
    run.fit()
    _, run = trainer(tmp_path / "run", save_every=5, keep=9)
    run.fit()
    late = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert len(late) >= 2
    for path in late[1:]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    method, run = trainer(tmp_path / "run", resume=True, save_every=5, keep=9)
    run.fit()
    assert int(method.task) == 1
    for name, value in whole.state_dict().items():
        assert torch.equal(value, method.state_dict()[name]), name


def test_parts_of_a_batch_give_the_same_gradient():
    found = []
    for micro_batch in (None, 2):
        method = second_task(build())
        method.micro_batch = micro_batch
        torch.manual_seed(1)
        torch.stack(list(method.losses(batch_of(method, [2, 3, 3], first=50)).values())).sum().backward()
        found.append([p.grad for p in method.parameters() if p.grad is not None])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def shared(rank: int, world: int, folder: Path) -> None:
    method = build().double()
    method.losses(share(method, batch_of(method, [0, 0, 1, 1, 1]), rank, world))
    method.begin(1)
    found = method.losses(share(method, batch_of(method, [2, 3, 3, 0, 1], first=50), rank, world))
    torch.save(({n: x.detach() for n, x in found.items()}, method.memory.state_dict()), folder / f"{rank}.pt")


def share(method, batch, rank, world):
    at = slice(rank, None, world)
    view = batch.views[0].take(at)
    data = {n: x.double() if x.is_floating_point() else x for n, x in view.data.items()}
    return replace(
        batch,
        views=(replace(view, data=data),),
        rows=batch.rows[at],
        labels={n: x[at] for n, x in batch.labels.items()},
    )


def test_many_processes_keep_one_memory_and_have_the_losses_of_one(tmp_path: Path):
    spread(shared_without_draws, 3, tmp_path)
    alone = tmp_path / "alone"
    alone.mkdir()
    shared_without_draws(0, 1, alone)
    (one, memory), *many = (
        torch.load(path, weights_only=True) for path in (alone / "0.pt", *(tmp_path / f"{r}.pt" for r in range(3)))
    )
    for losses, held in many:
        for name in ("mm", "nspt"):
            torch.testing.assert_close(losses[name], one[name])
        order, own = held["rows"].argsort(), memory["rows"].argsort()
        for name in ("rows", "labels", "field_said", "learned"):
            x, y = held[name], memory[name]
            assert torch.equal(x[order], y[own]) if name != "learned" else torch.equal(x, y)


def shared_without_draws(rank: int, world: int, folder: Path) -> None:
    """What is rehearsed comes in the batch itself, as each process draws for itself."""
    TINY["replay"] = 0.0
    shared(rank, world, folder)
    TINY["replay"] = 1.0


# --- rows ------------------------------------------------------------------------------------------------------------


def folder_of(root: Path, head: str, lines: list[str]) -> Path:
    root.mkdir()
    for i in range(len(lines)):
        rng = np.random.default_rng(i)
        wavfile.write(root / f"{i}.wav", 8000, (3000 * rng.normal(size=2400)).astype(np.int16))
    (root / "metadata.csv").write_text("\n".join([head, *(f"{i}.wav,{x}" for i, x in enumerate(lines))]) + "\n")
    return root


CLASSES = [("on", 1), ("off", 1), ("up", 2), ("up", 2)] * 6
LINES = [f"{f'turn {w} now {i}' if i % 5 else ''},{w},{task}" for i, (w, task) in enumerate(CLASSES)]


def test_columns_say_what_is_what(tmp_path: Path):
    found = read(folder_of(tmp_path / "x", "file_name,transcript,intent,task", LINES))
    schema = infer(found)
    assert (schema.kind, schema.modalities, schema.labels) == ("labelled", {"audio": "audio"}, ("off", "on", "up"))
    assert schema.columns == {"audio": "audio", "label": "intent", "text": "transcript", "task": "task"}
    given = Rows(found, schema)
    assert len(given) == 24  # those without transcript too
    assert (given[0]["text"], given[1]["text"], given[2]["task"]) == (None, "turn off now 1", 2)
    plain = infer(found.remove_columns(["intent", "task"]))
    assert plain.kind == "towers"
    assert infer(found, columns={"label": "intent", "audio": "audio"}).columns.keys() == {"audio", "label"}


def test_from_a_folder_to_a_model(tmp_path: Path):
    data = folder_of(tmp_path / "x", "file_name,transcript,intent,task", LINES)
    done = fit(data, out=tmp_path / "run", method="coconut", size="smoke", settings={"memory": 6}, say=lambda _: None)
    method = done.method
    assert method.config.labels == ("off", "on", "up")
    assert int(method.task) == 2
    assert method.memory.learned.tolist() == [True, True, False]
    assert (tmp_path / "run" / "model").is_dir()
    assert math.isfinite(done.result.seconds)


def test_rows_that_cannot_be_learned_from(tmp_path: Path):
    again = [*LINES[:-1], "turn on,on,2"]
    with pytest.raises(DataError, match="Class on comes in task 1 and again in task 2"):
        fit(folder_of(tmp_path / "a", "file_name,transcript,intent,task", again), out=tmp_path / "r", method="coconut")
    named = [x.rsplit(",", 1)[0] + ",first" for x in LINES]
    with pytest.raises(DataError, match="Tasks are numbers"):
        fit(folder_of(tmp_path / "b", "file_name,transcript,intent,task", named), out=tmp_path / "r", method="coconut")
    with pytest.raises(ConfigError, match="task after another"):
        fit(tmp_path / "a", out=tmp_path / "r", method="coconut", streaming=True)
