"""The documentation derives from the code: a page for everything, and pictures that show what the engine does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from counterpoint.cli import verbs
from counterpoint.docs import pages as writer
from counterpoint.docs import pictures
from counterpoint.encoders.base import choices, modalities
from counterpoint.methods.base import discover
from counterpoint.objectives.contrast import contrast

PICTURES = pictures.examples()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("docs")
    return {str(p.relative_to(folder)): p.read_text() for p in writer.write(folder)}


def test_everything_has_a_page(pages: dict[str, str]) -> None:
    assert {f"methods/{name}.md" for name in discover()} <= set(pages)
    assert {f"verbs/counterpoint-{verb}.md" for verb in verbs()} <= set(pages)
    assert {f"objectives/{name}.md" for name, _ in writer.found_objectives()} <= set(pages)


def test_every_word_that_picks_an_encoder_stands_in_the_table(pages: dict[str, str]) -> None:
    found = {}
    for line in pages["encoders.md"].splitlines():
        if line.startswith("| ") and not line.startswith("| rows hold"):
            modality, words, cls, what = (cell.strip() for cell in line.strip("| ").split(" | "))
            assert what
            found |= {(modality, word): cls for word in re.findall("`(.+?)`", words)}
    named = {(m, word): f"`{c.__module__}.{c.__name__}`" for m in modalities() for word, c in choices(m).items()}
    assert found == named


def test_every_verb_shows_an_example(pages: dict[str, str]) -> None:
    for verb in verbs():
        assert re.search(rf"Example:\s+counterpoint\s+{verb}\b", pages[f"verbs/counterpoint-{verb}.md"]), verb


def test_every_setting_of_a_method_stands_on_its_page(pages: dict[str, str]) -> None:
    assert "| `momentum` | `0.9995` |" in pages["methods/contriever.md"]
    assert "2112.09118" in pages["methods/contriever.md"]


def test_the_evidence_stands_on_the_methods_page(tmp_path: Path) -> None:
    entry = {"name": "accuracy", "ablation": "trained", "higher_is_better": True, "method_mean": 0.5}
    entry |= {"ablation_mean": 0.4, "diff": 0.1, "ci95": [-0.05, 0.25], "seeds": 3}
    found = {
        "method": "directpred", "verdict": "not shown", "claim": "It is better.", "metrics": [entry],
        "wall_seconds": 90.0, "hardware": "a processor", "data": ["cifar10"], "commit": "abc1234",
        "command": "counterpoint prove directpred --seeds 3",
    }  # fmt: skip
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence/directpred.json").write_text(json.dumps(found))
    (tmp_path / "evidence/directpred.svg").write_text("<svg/>")
    writer.write(tmp_path / "docs", measured=tmp_path / "evidence")
    page = (tmp_path / "docs/methods/directpred.md").read_text()
    assert "## Evidence: not shown\n\n> It is better." in page
    assert "| accuracy ↑ | trained | 0.500 | 0.400 | +0.100 [−0.050, +0.250] | undecided |" in page
    assert "- **direct** (the method): " in page
    assert "1.5 min on a processor, commit abc1234" in page
    assert "](directpred.evidence.svg)" in page
    assert (tmp_path / "docs/methods/directpred.evidence.svg").read_text() == "<svg/>"
    assert "| not shown |" in (tmp_path / "docs/methods/index.md").read_text()
    assert "No evidence yet." in (tmp_path / "docs/methods/simcse.md").read_text()


@pytest.mark.parametrize("picture", PICTURES, ids=lambda p: p.title)
def test_a_picture_shows_what_the_engine_computes(picture: pictures.Picture) -> None:
    """The loss worked out from the drawn matrix is the engine's loss."""
    targets, weights, dropped = (x.double() for x in pictures.matrix(picture))
    z = pictures.embeddings(3).double()
    k = torch.cat([pictures.embeddings(4), pictures.embeddings(5)[: picture.extra]]).double()
    scores = z @ k.T
    exists = dropped == 0
    over = (scores + torch.where(targets > 0, 0.0, weights.log())).masked_fill(~exists, -torch.inf).logsumexp(1)
    targets = targets * exists
    counts = targets.sum(1)
    # Divided by the sum of the targets where the rule says so; the pictures' other rules have sums as they are.
    rule = getattr(picture.rule, "rules", (picture.rule,))[0]
    drawn = counts * over - (targets * scores).sum(1)
    drawn = drawn / counts.clamp(min=1e-9) if getattr(rule, "normalise", False) else drawn
    drawn = drawn[counts > 0].mean()
    extra = k[pictures.N :] if picture.extra else None
    engine = contrast(z, k[: pictures.N], picture.rule, extra=extra)
    assert torch.allclose(engine, drawn, atol=1e-6)


def test_svg_has_a_square_per_pair() -> None:
    for picture in PICTURES:
        assert pictures.svg(picture).count("<rect") == pictures.N * (pictures.N + picture.extra)
