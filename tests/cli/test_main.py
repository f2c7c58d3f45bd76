"""What every verb shares: help with an example that works, exit codes, errors as sentences."""

from __future__ import annotations

import errno
import gzip
import inspect
import json
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

import pytest

import counterpoint
from counterpoint.cli import main, overview, verbs
from counterpoint.errors import DataError
from tests.workflow import made
from tests.workflow.conftest import Run

README = Path(__file__).parents[2] / "README.md"


def test_the_overview_names_every_verb_and_its_first_sentence(run: Run) -> None:
    said = run("--help")
    assert said.code == 0
    assert said.out.strip() == overview().strip()
    for verb, function in verbs().items():
        assert f"  {verb:9} {(function.__doc__ or '').splitlines()[0]}" in said.out
    assert max(map(len, said.out.splitlines())) <= 130


def test_the_overview_is_quick() -> None:
    """Nothing heavy is imported to print a help."""
    script = (
        "import sys; from counterpoint.cli import main; main(['--help']); import counterpoint; "
        "print(*{'torch', 'datasets', 'transformers'} & {m.partition('.')[0] for m in sys.modules}, file=sys.stderr)"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not said.stderr.strip()


@pytest.mark.parametrize("verb", verbs())
def test_help_of_a_verb(run: Run, verb: str) -> None:
    said = run(verb, "--help")
    assert said.code == 0
    assert f"Example: counterpoint {verb}" in said.out
    assert "{None}" not in said.out
    parameters = inspect.signature(verbs()[verb]).parameters
    described = re.findall(r"^        (\w+): ", (inspect.getdoc(verbs()[verb]) and verbs()[verb].__doc__) or "", re.M)
    assert set(parameters) <= set(described), "an option without a word about it"


def example(verb: str) -> list[str]:
    """The words of a verb's example."""
    found = re.search(r"Example: counterpoint (.*)", verbs()[verb].__doc__ or "")
    assert found, f"{verb} has no example"
    return shlex.split(found[1])


def test_every_example_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("pairs", "test", "train"):
        made.jsonl(tmp_path / f"{name}.jsonl", made.rows("pairs", 40))
    for name in ("sentences", "documents"):
        made.jsonl(tmp_path / f"{name}.jsonl", made.rows("texts", 120))
    order = ["fit", "eval", "encode", "index", "search", "export", "report", "methods", "data", "doctor"]
    order += ["diagnose", "mine", "merge", "prove", "compare", "align", "generate"]
    assert set(order) == set(verbs()) - {"demo", "refine"}, "these have tests of their own"
    for verb in order:
        more = ["--size", "smoke"] if verb in ("fit", "compare") else []
        if verb == "search":
            shutil.copytree("runs/mine", "runs/demo")
        if verb == "merge":
            for name in "abc":
                run("fit", "pairs.jsonl", "--encoder", "runs/mine", "--out", f"runs/{name}", "--size", "smoke")
        if verb == "align":
            (tmp_path / "ref.fa").write_text(">contig\n" + made.dna(9_000) + "\n")
            (tmp_path / "reads.fq.gz").write_bytes(gzip.compress(f"@r\n{made.dna(120)}\n+\n{'I' * 120}\n".encode()))
            run("fit", "ref.fa", "--out", "runs/genome", "--size", "smoke")
            run("index", "runs/genome", "ref.fa")
        if verb == "generate":
            shutil.rmtree("runs/mine")
            run("fit", "sentences.jsonl", "--method", "contrastive-search", "--out", "runs/mine", "--size", "smoke")
        said = run(*example(verb), *more)
        assert said.code == 0, said.all
        assert said.out.strip()
    assert (tmp_path / "mine.onnx").exists()
    assert (tmp_path / "vectors.npy").exists()


def test_the_python_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"## Ten lines of Python\s+```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    assert code
    made.jsonl(tmp_path / "pairs.jsonl", made.rows("pairs", 120))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code[1].replace("8192", "512"), names)
    assert names["result"].folder == Path("runs/mine")
    assert names["result"].metrics["systems"]["model"]
    assert names["vectors"].shape == (1, counterpoint.load("runs/mine").dim)
    assert names["loss"].item() > 0


def test_version(run: Run) -> None:
    assert run("--version").out == f"counterpoint {counterpoint.__version__}\n"


@pytest.mark.parametrize("words", [["fti"], ["fit", "--nonsense", "1"], ["fit", "x.jsonl"], ["search"]])
def test_words_that_are_not_understood(run: Run, words: list[str]) -> None:
    assert run(*words).code == 2


def raising(error: BaseException) -> Any:
    def verb() -> NoReturn:
        """Fail."""
        raise error

    return verb


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (DataError("There are no rows."), 2, "counterpoint: There are no rows.\n"),
        (KeyboardInterrupt(), 130, "counterpoint: interrupted.\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "x.npy"),
            2,
            "counterpoint: No space left on device: x.npy\n",
        ),
    ],
)
def test_errors_become_sentences(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, sentence: str
) -> None:
    monkeypatch.setattr("counterpoint.cli.verbs", lambda: {"fail": raising(error), "other": raising(error)})
    said = run("fail")
    assert (said.code, said.err) == (code, sentence)


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("counterpoint.cli.verbs", lambda: {"fail": raising(KeyError("x")), "b": raising(KeyError())})
    with pytest.raises(KeyError):
        main(["fail"])


def test_warnings_become_sentences(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def verb() -> None:
        """Warn."""
        warnings.warn("The batch is small.", stacklevel=1)

    monkeypatch.setattr("counterpoint.cli.verbs", lambda: {"warn": verb, "other": verb})
    assert run("warn").err == "counterpoint: The batch is small.\n"


def test_output_that_nobody_reads_to_the_end() -> None:
    """`counterpoint data | head -1` ends quietly, whether `print` or rich meets the closed pipe."""
    printing = "import counterpoint.cli as c; c.verbs = lambda: {'a': lambda: print('x'), 'b': lambda: None};"
    for first, verb in ((printing, "a"), ("", "data")):
        script = f"import sys; from counterpoint.cli import main; {first} sys.exit(main([{verb!r}]))"
        process = subprocess.Popen([sys.executable, "-u", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read().decode()
        assert (process.wait(), said) == (1, "")


def test_the_module_is_the_command() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "counterpoint", "--version"], capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith("counterpoint ")


# --- settings of the training run from a file ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["settings.yaml", "settings.json", "config.json"])
def test_settings_from_a_file(run: Run, tmp_path: Path, name: str) -> None:
    """Small numbers survive: JSON writes 2e-05, which YAML 1.1 takes for a word."""
    data = made.jsonl(tmp_path / "pairs.jsonl", made.rows("pairs", 40))
    settings = {"steps": 2, "lr": 2e-5, "betas": [0.8, 0.9], "tensorboard": False, "batch": 8}
    path = tmp_path / name
    match name:
        case "settings.yaml":
            path.write_text("steps: 2\nlr: 2e-5\nbetas: [0.8, 0.9]\ntensorboard: false\nbatch: 8\n")
        case "settings.json":
            path.write_text(json.dumps(settings))
        case _:  # that of an earlier run
            words = ["--steps", "2", "--lr", "2e-5", "--betas", "0.8", "0.9", "--tensorboard", "False", "--batch", "8"]
            assert run("fit", data, "--out", tmp_path / "first", "--size", "smoke", *words).code == 0
            path = tmp_path / "first/config.json"
    said = run("fit", data, "--out", tmp_path / "run", "--size", "smoke", "--config", path, "--batch", "6")
    assert said.code == 0, said.all
    train = json.loads((tmp_path / "run/config.json").read_text())["train"]
    assert {k: train[k] for k in settings} == {**settings, "batch": 6}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("learning_rate: 1", "The training run has no setting 'learning_rate'. It has: accumulate,"),
        ("lr: fast", "The setting lr of the training run is a number; 'fast' was given."),
        ("- 1", "should hold settings of the training run as NAME: VALUE"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_file_of_settings_that_cannot_be(run: Run, tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "settings.yaml").write_text(text)
    data = made.jsonl(tmp_path / "pairs.jsonl", made.rows("pairs", 40))
    said = run("fit", data, "--out", tmp_path / "run", "--config", tmp_path / "settings.yaml")
    assert said.code == 2
    assert sentence in said.all
