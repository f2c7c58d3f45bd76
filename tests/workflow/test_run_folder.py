"""The run folder: never two runs in one, nothing lost, and a resume that ends where the run would have ended."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import counterpoint.train.checkpoint as checkpoint
from counterpoint import fit
from counterpoint.errors import ConfigError, ModelError
from tests.workflow import made
from tests.workflow.conftest import Run

STEPS = ("--size", "smoke", "--steps", "12", "--save-every", "3", "--tensorboard", "False")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return made.jsonl(tmp_path / "pairs.jsonl", made.rows("pairs", 90))  # too few to hold out: nothing is measured


def weights(out: Path) -> dict[str, str]:
    """Digest of every file of the model: weights, vocabulary, configuration.

    But one: `transformers` notes in it whether a tokenizer was made or read from a folder, as it is at a resume.
    """
    files = sorted(p for p in (out / "model").rglob("*") if p.is_file() and p.name != "tokenizer_config.json")
    return {str(p.relative_to(out / "model")): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


# --- one seed, one result --------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits(pairs: Path, tmp_path: Path) -> None:
    """Vocabulary, initial weights, batches, dropout: all of it follows from the seed."""
    script = (
        "import sys; from counterpoint.cli import main\n"
        "for encoder in ('static', 'transformer'):\n"
        f"    words = ['fit', {str(pairs)!r}, '--out', sys.argv[1] + encoder, '--encoder', encoder, *{list(STEPS)!r}]\n"
        "    assert main(words) == 0\n"
    )
    # Processes of their own, with another hash seed each: an order that a hash map gives would differ.
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / name)],
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )
        for name, seed in (("a-", "1"), ("b-", "2"))
    ]
    assert [p.wait() for p in processes] == [0, 0]
    for encoder in ("static", "transformer"):
        assert weights(tmp_path / f"a-{encoder}") == weights(tmp_path / f"b-{encoder}")


def test_another_seed_gives_other_weights(run: Run, pairs: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        assert run("fit", pairs, "--out", tmp_path / str(seed), "--seed", seed, *STEPS).code == 0
    assert weights(tmp_path / "0")["model.safetensors"] != weights(tmp_path / "1")["model.safetensors"]


# --- killed, interrupted, resumed ------------------------------------------------------------------------------


def start(pairs: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    """`fit` in a process of its own, slow enough to be met in the middle of its steps."""
    script = (
        "import sys, time\n"
        "import counterpoint.methods.text.in_batch as m\n"
        "honest = m.InBatch.after_step\n"
        "def slow(self, step):\n"
        "    print('step', step, flush=True)\n"
        "    time.sleep(0.05)\n"
        "    return honest(self, step)\n"
        "m.InBatch.after_step = slow\n"
        "from counterpoint.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    words = [sys.executable, "-c", script, "fit", str(pairs), "--out", str(out), *STEPS, *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def wait_for(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    for said in process.stdout:
        if said.strip() == line:
            return
    raise AssertionError(f"the process ended before it said {line!r}: {process.communicate()[1]}")


def test_killed_at_any_step_it_resumes_to_the_same_bits(run: Run, pairs: Path, tmp_path: Path) -> None:
    made.jsonl(pairs, made.rows("pairs", 160))  # with a part that is measured
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run("fit", pairs, "--out", whole, *STEPS).code == 0
    process = start(pairs, killed)
    wait_for(process, f"step {random.randint(4, 11)}")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (killed / "model").exists()
    said = run("encode", killed, pairs, "--column", "answer", "--out", tmp_path / "v.npy")
    assert said.code == 2
    assert f"has no model yet. Finish it first: counterpoint fit --out {killed} --resume" in said.all
    said = run("fit", "--out", killed, "--resume")  # what was asked for then is asked for again
    assert said.code == 0, said.all
    assert weights(killed) == weights(whole)
    assert (
        json.loads((killed / "metrics.json").read_text())["systems"]
        == (json.loads((whole / "metrics.json").read_text())["systems"])
    )


def test_killed_before_its_first_checkpoint_it_begins_again(run: Run, pairs: Path, tmp_path: Path) -> None:
    process = start(pairs, tmp_path / "run")
    wait_for(process, "step 1")
    process.kill()
    process.communicate()
    said = run("fit", pairs, "--out", tmp_path / "run", "--resume")
    assert said.code == 0, said.all
    assert "was stopped before its first checkpoint; it begins again." in said.all
    assert run("fit", pairs, "--out", tmp_path / "whole", *STEPS).code == 0
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


def test_ctrl_c_saves_and_says_how_to_resume(run: Run, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(pairs, out)
    wait_for(process, "step 5")
    process.send_signal(signal.SIGINT)
    said, warned = process.communicate(timeout=60)
    assert process.returncode == 130, warned
    assert "Finishing the step, then saving." in warned
    assert f"Continue: counterpoint fit --out {out} --resume" in said
    assert json.loads((out / "metrics.json").read_text())["stopped"] == "interrupted"
    assert run("encode", out, pairs, "--column", "answer", "--out", tmp_path / "v.npy").code == 0  # usable as it is
    assert run("fit", "--out", out, "--resume").code == 0
    assert run("fit", pairs, "--out", tmp_path / "whole", *STEPS).code == 0
    assert weights(out) == weights(tmp_path / "whole")


def test_two_modalities_resume_too(tmp_path: Path) -> None:
    """Several encoders, one of them with batch statistics: everything comes back, and nothing is drawn anew."""
    data = made.captioned(tmp_path / "data", 60)
    settings: dict[str, Any] = {"steps": 6, "save_every": 2, "tensorboard": False}

    def quiet(out: Path, **more: Any) -> None:
        fit(data, out=out, size="smoke", say=lambda _: None, **more)

    quiet(tmp_path / "whole", train=settings)
    quiet(tmp_path / "part", train=settings)
    checkpoint.remove([tmp_path / "part/checkpoints/step-00000006"])  # as if killed in the fifth step
    shutil.rmtree(tmp_path / "part/model")
    (tmp_path / "part/metrics.json").unlink()
    fit(out=tmp_path / "part", resume=True, say=lambda _: None)
    assert weights(tmp_path / "part") == weights(tmp_path / "whole")


# --- refusals --------------------------------------------------------------------------------------------------


def test_a_folder_holds_one_run(run: Run, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    said = run("fit", pairs, "--out", out, "--resume")
    assert said.code == 2
    assert f"There is no run in {out} to resume. Leave --resume out to begin one." in said.all
    assert run("fit", pairs, "--out", out, *STEPS).code == 0
    before = weights(out)
    said = run("fit", pairs, "--out", out, *STEPS)
    assert said.code == 2
    assert "already holds a run. Add --resume" in said.all
    assert "--overwrite" in said.all
    said = run("fit", pairs, "--out", out, "--resume")
    assert said.code == 2
    assert "is finished: there is nothing to resume. To train longer, give more --epochs or --steps" in said.all
    said = run("fit", pairs, "--out", out, "--resume", "--steps", "20", "--method", "graded")
    assert said.code == 2
    assert "was begun with method 'auto', which --resume cannot change to 'graded'." in said.all
    said = run("fit", pairs, "--out", out, "--resume", "--overwrite")
    assert said.code == 2
    assert "contradict each other" in said.all
    said = run("fit", tmp_path / "typo.jsonl", "--out", out, "--overwrite")
    assert said.code == 2
    assert weights(out) == before, "a slip in the name of the data cost the run that was there"
    said = run("fit", pairs, "--out", out, "--resume", "--steps", "16")
    assert said.code == 0, said.all
    assert "Resuming with other settings: steps 12 -> 16." in said.err
    assert json.loads((out / "metrics.json").read_text())["steps"] == 16


def test_a_finished_run_that_was_killed_while_it_trained_longer(run: Run, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run("fit", pairs, "--out", out, *STEPS).code == 0
    finished = (out / "metrics.json").read_text()
    assert run("fit", "--out", out, "--resume", "--steps", "16").code == 0
    longer = weights(out)
    checkpoint.remove([out / "checkpoints/step-00000016"])  # as if killed in the last step
    (out / "metrics.json").write_text(finished)
    assert run("fit", "--out", out, "--resume").code == 0
    assert weights(out) == longer
    assert json.loads((out / "metrics.json").read_text())["steps"] == 16


def test_a_resume_wants_the_same_rows(run: Run, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run("fit", pairs, "--out", out, *STEPS).code == 0
    made.jsonl(pairs, made.rows("pairs", 80))
    said = run("fit", "--out", out, "--resume", "--steps", "20")
    assert said.code == 2
    assert "Resume with the same data and settings, or begin a new run." in said.all


def test_an_overwritten_run_leaves_nothing_of_the_old_one(run: Run, pairs: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "run", made.jsonl(tmp_path / "texts.jsonl", made.rows("texts"))
    assert run("fit", other, "--out", out, *STEPS).code == 0
    assert run("index", out, other).code == 0
    assert run("fit", pairs, "--out", out, "--overwrite", *STEPS).code == 0
    assert not (out / "index").exists()
    assert run("fit", pairs, "--out", tmp_path / "fresh", *STEPS).code == 0
    assert weights(out) == weights(tmp_path / "fresh")
    assert len((out / "metrics.jsonl").read_text().splitlines()) == (
        len((tmp_path / "fresh/metrics.jsonl").read_text().splitlines())
    )


def test_a_model_is_not_overwritten_by_accident(run: Run, pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "home/model").mkdir(parents=True)
    said = run("fit", pairs, "--out", tmp_path / "home", *STEPS)
    assert said.code == 2
    assert "already holds a model" in said.all


# --- a full disk -----------------------------------------------------------------------------------------------


def test_a_full_disk_loses_nothing(run: Run, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last checkpoint cannot be written: the one before stays, and the run goes on from it once there is room."""
    honest, saves = checkpoint.save_file, 0

    def full(*words: Any) -> None:
        nonlocal saves
        saves += 1
        if saves > 6:  # two checkpoints of three files fit
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(*words)

    out = tmp_path / "run"
    monkeypatch.setattr(checkpoint, "save_file", full)
    said = run("fit", pairs, "--out", out, *STEPS)
    assert said.code == 2
    assert "the disk is full" in said.all
    assert [p.name for p in checkpoint.numbered(out / "checkpoints", "step")] == ["step-00000003", "step-00000006"]
    monkeypatch.undo()
    assert run("fit", "--out", out, "--resume").code == 0
    assert run("fit", pairs, "--out", tmp_path / "whole", *STEPS).code == 0
    assert weights(out) == weights(tmp_path / "whole")


def test_a_full_disk_at_the_model_keeps_the_checkpoint(
    run: Run, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import counterpoint.encoders.layout as layout

    honest, saves = layout.save_file, 0

    def full(*words: Any) -> None:
        nonlocal saves
        saves += 1
        if saves > 1:  # the encoder as it begins is written, the trained one is not
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(*words)

    monkeypatch.setattr(layout, "save_file", full)
    said = run("fit", pairs, "--out", tmp_path / "run", *STEPS)
    assert said.code == 2
    assert "No space left on device" in said.all
    monkeypatch.undo()
    assert run("fit", "--out", tmp_path / "run", "--resume").code == 0
    assert (tmp_path / "run/report.html").exists()


def test_a_full_disk_at_a_resume_keeps_what_was_asked(
    run: Run, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    assert run("fit", pairs, "--out", out, *STEPS).code == 0
    before = (out / "config.json").read_text()
    honest = Path.write_text

    def full(path: Path, text: str, **more: Any) -> int:
        if "config" in path.name and path.suffix == ".json":
            honest(path, text[:20], **more)
            raise OSError(errno.ENOSPC, "No space left on device")
        return honest(path, text, **more)

    monkeypatch.setattr(Path, "write_text", full)
    said = run("fit", "--out", out, "--resume", "--steps", "16")
    assert said.code == 2
    assert "No space left on device" in said.all
    assert (out / "config.json").read_text() == before
    monkeypatch.undo()
    assert run("fit", "--out", out, "--resume", "--steps", "16").code == 0


def test_errors_of_the_python_interface(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no recipe of the size 'tiny'"):
        fit(pairs, out=tmp_path / "run", size="tiny")
    with pytest.raises(ConfigError, match="The training run has no setting 'stepz'"):
        fit(pairs, out=tmp_path / "run", train={"stepz": 3})
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read as JSON"):
        fit(out=tmp_path / "run", resume=True)


def test_time_of_a_refusal(run: Run, pairs: Path, tmp_path: Path) -> None:
    """A folder that is taken is refused before any row is read."""
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    start = time.perf_counter()
    assert run("fit", tmp_path / "no such file", "--out", tmp_path / "run").code == 2
    assert time.perf_counter() - start < 1


def test_an_edited_row_is_not_gone_on_with(pairs: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "run"
    assert run("fit", str(pairs), "--out", str(out), *STEPS).code == 0
    lines = pairs.read_text().splitlines()
    row = json.loads(lines[0])
    pairs.write_text("\n".join([json.dumps({**row, "answer": row["answer"] + " edited"}), *lines[1:]]) + "\n")
    done = run("fit", "--out", str(out), "--resume", "--steps", "15")
    assert done.code == 2
    assert "a cell differs" in done.err


def test_a_run_whose_page_was_not_written_makes_it_at_a_resume(pairs: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "run"
    assert run("fit", str(pairs), "--out", str(out), *STEPS).code == 0
    before = weights(out)
    (out / "report.html").unlink()
    assert run("fit", "--out", str(out), "--resume").code == 0
    assert (out / "report.html").exists()
    assert weights(out) == before
    assert "nothing to resume" in run("fit", "--out", str(out), "--resume").err


def test_a_folder_deleted_meanwhile_is_told(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from counterpoint.workflow import fit as module

    out = tmp_path / "run"
    measured = module.Trainer.fit

    def deleting(trainer: Any) -> Any:
        result = measured(trainer)
        shutil.rmtree(out)
        return result

    monkeypatch.setattr(module.Trainer, "fit", deleting)
    with pytest.raises(ModelError, match="was deleted while the run went on"):
        fit(pairs, out=out, size="smoke", train={"steps": 2}, say=lambda _: None)
    assert (out / "model" / "counterpoint.json").exists()


def test_training_that_teaches_nothing_is_said_first(pairs: Path, tmp_path: Path) -> None:
    said: list[str] = []
    train = {"steps": 4, "batch": 1}
    found = fit(pairs, out=tmp_path / "run", size="smoke", train=train, say=lambda line: said.append(str(line)))
    assert found.result.still == 1
    assert any("taught nothing" in line for line in said)
    assert "taught nothing" in json.loads((tmp_path / "run" / "metrics.json").read_text())["notes"][0]
