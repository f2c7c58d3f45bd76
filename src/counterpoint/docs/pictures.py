"""Pictures of pairings: one small matrix each, so that nobody has to guess what a loss does with their pairs."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from counterpoint.kernels.tile import Asked, Scratch, Tile
from counterpoint.objectives.hard import hardest
from counterpoint.objectives.pairing import (
    Diagonal,
    FalseNegatives,
    Hardness,
    HardQuantile,
    Importance,
    Labels,
    Listed,
    NotNear,
    NotSame,
    NotSelf,
    OnlyOwn,
    OnlySame,
    Pairing,
    Rule,
    Soft,
    TeacherSimilarity,
    views,
)

N, K = 8, 3
SQUARE = 22
POSITIVE, NEGATIVE, NOTHING = (47, 91, 208), (217, 98, 43), (238, 240, 245)


@dataclass(frozen=True)
class Picture:
    """title: the pairing as it is typed. rule: the pairing itself. extra: columns of extra candidates (a queue)."""

    title: str
    rule: Rule
    extra: int = 0
    note: str = ""


def embeddings(seed: int, dim: int = 4) -> Tensor:
    return normalize(torch.randn(N, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


def examples() -> list[Picture]:
    """The pairings of the page, on eight rows whose labels, sources, times and teacher are made up but fixed."""
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
    teacher = embeddings(0)
    guide = embeddings(1, 3)
    scores = (embeddings(3) @ embeddings(4).T).fill_diagonal_(-math.inf)
    graded = torch.zeros(N, N).scatter_(1, torch.arange(N)[:, None].add(1) % N, 0.4).add(torch.eye(N))
    listed = torch.tensor([[0, 1], [0, 4], [1, 2], [2, 3], [3, 3], [4, 0], [5, 5], [6, 7], [7, 7]])
    return [
        Picture("Diagonal()", Diagonal(), note="One positive per row, everything else negative: InfoNCE, CLIP."),
        Picture("Diagonal() & OnlyOwn()", Diagonal() & OnlyOwn(), K, "Own positive beside a queue: MoCo, Contriever."),
        Picture("Labels(y) & NotSelf()", Labels(labels) & NotSelf(), note="Same class, not oneself: SupCon."),
        Picture("views(4, 2)", views(4, 2), note="Two views of four rows, each the other's positive: NT-Xent."),
        Picture("Listed(pairs)", Listed(*listed.T), note="Positives by a list: several, one, anywhere."),
        Picture("Soft(T)", Soft(graded), note="Graded relevance."),
        Picture(
            "TeacherSimilarity(k, k)",
            TeacherSimilarity(teacher, teacher),
            note="Targets from a frozen tower's similarities: CWCL and distillation.",
        ),
        Picture(
            "Diagonal() & NotSame(source)",
            Diagonal() & NotSame(torch.arange(N) // 2),
            note="Rows of one source are no negatives of each other.",
        ),
        Picture(
            "Diagonal() & OnlySame(language)",
            Diagonal() & OnlySame(torch.arange(N) % 2),
            note="Negatives from the own language, task or domain alone.",
        ),
        Picture(
            "Diagonal() & NotNear(t, 2)",
            Diagonal() & NotNear(torch.arange(float(N)), 2.0),
            note="Neighbours in time are no negatives.",
        ),
        Picture(
            "Diagonal() & FalseNegatives(guide, guide)",
            Diagonal() & FalseNegatives(guide, normalize(guide + 0.4 * embeddings(2, 3), dim=-1)),
            note="Negatives that a guide finds as close as the positive are taken out: GISTEmbed.",
        ),
        Picture(
            "Diagonal() & HardQuantile(0.3)",
            Diagonal() & HardQuantile(0.3, hardest(scores, 0.3) - 1e-5),
            note="Of each row's negatives only the hardest 30 %: a large temperature becomes safe.",
        ),
        Picture(
            "Diagonal() & Hardness(2)", Diagonal() & Hardness(2.0), note="The closer a negative, the more it weighs."
        ),
        Picture(
            "Diagonal() & Importance(w)",
            Diagonal() & Importance(torch.tensor([1.0, 0.2, 1.0, 0.5, 1.0, 0.1, 1.0, 0.7])),
            note="A weight per candidate, e.g. one over how often it is drawn.",
        ),
    ]


def colour(rgb: tuple[int, int, int], share: float) -> str:
    mixed = (round(255 + (c - 255) * (0.12 + 0.88 * min(1.0, max(0.0, share)))) for c in rgb)
    return f"rgb({','.join(map(str, mixed))})"


def matrix(picture: Picture) -> tuple[Tensor, Tensor, Tensor]:
    """Targets, weights of negatives and dropped pairs, ``(N, N + K)`` each, as the engine would see them."""
    pairing = Pairing([picture.rule])
    pairing.check(N, N, picture.extra, False)
    z, k = embeddings(3), torch.cat([embeddings(4), embeddings(5)[: picture.extra]])
    parts = []
    for cols in (slice(0, N), slice(N, N + picture.extra)):
        if cols.start == cols.stop:
            continue
        tile = Tile(slice(0, N), cols, N, Scratch(torch.device("cpu")), scores=z @ k[cols].T)
        cell = pairing.cell(tile, Asked(positives=True), torch.float32)
        zeros = torch.zeros(tile.shape)
        targets = zeros if cell.targets is None else cell.targets.clone()
        weights = torch.ones(tile.shape) if cell.log_weights is None else cell.log_weights.exp()
        dropped = zeros.bool() if cell.dropped is None else cell.dropped.clone()
        parts.append((targets, weights, dropped))
    return tuple(torch.cat(p, 1) for p in zip(*parts))  # type: ignore[return-value]


def svg(picture: Picture) -> str:
    """The pair matrix as SVG: blue targets, orange negatives (paler: less weight), grey where there is no pair."""
    targets, weights, dropped = matrix(picture)
    rows, columns = targets.shape
    heaviest = float(weights[~dropped & (targets <= 0)].max()) if (~dropped & (targets <= 0)).any() else 1.0
    squares = []
    for i in range(rows):
        for j in range(columns):
            x, y = j * SQUARE + (8 if j >= N else 0), i * SQUARE
            t = float(targets[i, j])
            if bool(dropped[i, j]) and t <= 0:
                fill, said = f"rgb{NOTHING}", "no pair"
            elif t > 0:
                fill, said = colour(POSITIVE, t / float(targets.max())), f"target {t:.2g}"
            else:
                w = float(weights[i, j])
                fill, said = colour(NEGATIVE, 0.75 * w / heaviest), f"negative, weight {w:.2g}"
            box = f'<rect x="{x}" y="{y}" width="{SQUARE - 2}" height="{SQUARE - 2}" rx="3" fill="{fill}">'
            squares.append(f"{box}<title>anchor {i}, candidate {j}: {said}</title></rect>")
    width, height = columns * SQUARE + (8 if picture.extra else 0), rows * SQUARE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{picture.title}">{"".join(squares)}</svg>'
    )


def pictures() -> str:
    """The page ``pairings.md``."""
    out = [
        "# Pairings\n\nA pairing says what each score `S[i, j]` *should* be. Rows are anchors, columns candidates (set "
        "apart on the right: extra ones, from a queue). **Blue**: a target, deeper for more. **Orange**: a negative, "
        "deeper for more weight. **Grey**: no pair. Drawn by the code that trains; hover shows the figures.\n\n"
        "`contrast(anchors, candidates, PAIRING, scale=…)` takes any of them, and `&` joins one target rule with any "
        "number of masks and weights.\n"
    ]
    for picture in examples():
        out.append(f"\n## `{picture.title}`\n\n{picture.note}\n\n{svg(picture)}\n")
    out.append("\n# Every rule\n")
    import counterpoint.objectives.pairing as pairing

    for name in pairing.__all__:
        out.append(f"\n### {name}\n\n```text\n{inspect.getdoc(getattr(pairing, name)) or ''}\n```\n")
    assert all(math.isfinite(float(matrix(p)[1].max())) for p in examples())
    return "".join(out)
