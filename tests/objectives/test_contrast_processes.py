"""Many processes give the loss, the gradients and the by-products of one, whoever holds which rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from counterpoint.errors import DataError
from counterpoint.objectives.byproducts import Stats
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import (
    Debiased,
    Decoupled,
    Diagonal,
    FalseNegatives,
    Hardness,
    Importance,
    Labels,
    Listed,
    LogWeights,
    Margin,
    MultiLabel,
    NotNear,
    NotSame,
    NotSelf,
    OnlyOwn,
    OnlySame,
    Rule,
    Soft,
    TeacherSimilarity,
    views,
)
from counterpoint.processes import alone, transported
from tests.processes import spread

SHARES = {2: (3, 8), 3: (5, 0, 6)}  # anchors, and their candidates: unequal shares, and an empty one
EXTRA = {2: (4, 1), 3: (0, 3, 2)}
N, K = 11, 5


class Given(NamedTuple):
    """What is known of N rows (and of K extra candidates), whole, and cut to the share of a process."""

    rows: slice = slice(0, N)
    more: slice = slice(0, K)

    def row(self, x: Tensor) -> Tensor:
        return x[self.rows]

    def column(self, x: Tensor) -> Tensor:
        """Of candidates and extra ones."""
        return torch.cat([x[:N][self.rows], x[N:][self.more]])

    def own(self, matrix: Tensor) -> Tensor:
        """Of pairs, in which nothing is known of a row and the candidates of another process."""
        return torch.cat([matrix[:, :N][self.rows, self.rows], matrix[:, N:][self.rows, self.more]], 1)


def share(rank: int, world: int) -> Given:
    def cut(counts: tuple[int, ...]) -> slice:
        start = sum(counts[:rank])
        return slice(start, start + counts[rank])

    return Given(cut(SHARES[world]), cut(EXTRA[world]))


def block_diagonal(world: int, g: torch.Generator) -> Tensor:
    """A matrix ``(N, N + K)`` that is 0 between different processes."""
    out = torch.zeros(N, N + K, dtype=torch.float64)
    for rank in range(world):
        part = share(rank, world)
        out[part.rows, part.rows] = torch.rand(out[part.rows, part.rows].shape, generator=g, dtype=torch.float64)
        columns = slice(N + part.more.start, N + part.more.stop)
        out[part.rows, columns] = torch.rand(out[part.rows, columns].shape, generator=g, dtype=torch.float64)
    return out


def pairings(part: Given, world: int) -> Iterator[Rule]:
    """Every rule at least once, for the rows of a part; the whole for that of one process."""
    g = torch.Generator().manual_seed(0)
    y = torch.randint(4, (N + K,), generator=g) - 1
    source, times = torch.arange(N + K) // 3, torch.rand(N + K, generator=g, dtype=torch.float64)
    teacher = normalize(torch.randn(N + K, 3, generator=g, dtype=torch.float64), dim=1)
    tags = torch.rand(N + K, 6, generator=g) > 0.6
    matrix = block_diagonal(world, g)
    row, column = part.row, part.column
    yield Diagonal()
    yield Diagonal(own=True) & FalseNegatives(row(teacher), column(teacher), margin=0.3)
    yield Diagonal() & NotSame(row(source), column(source)) & Hardness(0.5)
    yield Diagonal() & Decoupled() & NotNear(row(times), 0.2, row(times[:N]), row(source), row(source[:N]))
    yield Diagonal() & Margin(row(times)) & Importance(column(times))
    yield Diagonal() & Debiased(0.1) & Hardness(0.5, unit_mean=True)
    yield Diagonal() & OnlyOwn()
    yield Labels(row(y), column(y)) & NotSelf()
    yield Labels(row(y), row(y), normalise=False) & NotSelf() & Hardness(0.2)
    yield Labels(row(y), self_pairs=False) & OnlySame(row(source), column(source))
    yield Labels(row(y), column(y)) & NotSelf(row(source), column(source)) & Margin(0.3)
    yield MultiLabel(row(tags), row(tags)) & NotSelf()
    yield MultiLabel(row(tags), column(tags), kind="count") & NotSelf()
    yield Soft(part.own(matrix)) & LogWeights(part.own(matrix))
    yield TeacherSimilarity(row(teacher), row(teacher), slope=0.5, intercept=0.5) & NotSelf()
    yield TeacherSimilarity(row(teacher), column(teacher), temperature=0.1)
    yield TeacherSimilarity(row(teacher) * (1 + row(times[:, None])), column(teacher), temperature=0.01)
    listed = [(i, j) for i in range(N) for j in range(N) if matrix[i, j] > 0.5 and matrix[i, j] > 0]
    inside = range(N)[part.rows]
    mine = [(i - inside.start, j - inside.start) for i, j in listed if i in inside]
    index = torch.tensor(mine, dtype=torch.long).reshape(-1, 2)
    yield Listed(index[:, 0], index[:, 1])


COUNT = sum(1 for _ in pairings(Given(), 2))


def leaves(part: Given) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(1)
    z = {name: normalize(torch.randn(n, 4, generator=g, dtype=torch.float64), dim=1) for name, n in SIZES.items()}
    given = {"q": part.row(z["q"]), "k": part.row(z["k"]), "extra": z["extra"][part.more]}
    given |= {"scale": torch.tensor(3.0, dtype=torch.float64), "bias": torch.tensor(-1.0, dtype=torch.float64)}
    return {name: x.clone().requires_grad_() for name, x in given.items()}


SIZES = {"q": N, "k": N, "extra": K}


def loss_of(pairing: Rule, given: dict[str, Tensor], **how: Any) -> Tensor:
    bias = given["bias"] if how.get("form") == "sigmoid" else None
    extra = given["extra"] if how.pop("with_extra", True) else None
    return contrast(given["q"], given["k"], pairing, scale=given["scale"], bias=bias, extra=extra, tile=4, **how)


def gradients(loss: Tensor, given: dict[str, Tensor]) -> dict[str, Tensor | None]:
    found = torch.autograd.grad(loss, list(given.values()), allow_unused=True)
    return dict(zip(given, found))


def close(a: Tensor, b: Tensor, what: str) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10, msg=lambda text: f"{what}: {text}")


def every_pairing(rank: int, world: int, transport: str) -> None:
    whole, part = Given(), share(rank, world)
    forms = [("softmax", True), ("softmax", False), ("marginal", True), ("sigmoid", False)]
    for (number, one), many in zip(enumerate(pairings(whole, world)), pairings(part, world)):
        words = {type(word).__name__ for word in one.words()}
        for form, both in forms:
            if form == "sigmoid" and words & {"Debiased", "Hardness", "TeacherSimilarity"}:
                continue
            if both and "TeacherSimilarity" in words and number == COUNT - 2:
                continue  # temperature 0.01: one direction at a time
            for backend, with_extra in itertools.product(("reference", "tiled"), (True, False)):
                how = {"form": form, "both": both, "backend": backend, "with_extra": with_extra}
                if not with_extra and any(len(word_columns(w)) > N for w in one.words()):
                    continue  # this rule knows of the extra candidates
                if "OnlyOwn" in words and not with_extra and form != "sigmoid":
                    continue  # a row with its positive alone: a loss of 0
                what = f"{transport}, {one}, {how}"
                here = leaves(part)
                with transported(transport):
                    loss = loss_of(many, here, **how)
                found = gradients(loss, here)
                with alone():
                    there = leaves(whole)
                    expected_loss = loss_of(one, there, **how)
                    expected = gradients(expected_loss, there)
                close(loss, expected_loss, what)
                for name, cut in (("q", part.rows), ("k", part.rows), ("extra", part.more)):
                    if expected[name] is not None:
                        close(found[name] / world, expected[name][cut], f"{what}, {name}")
                for name in ("scale", "bias"):
                    if expected[name] is not None:
                        averaged = found[name].clone()
                        torch.distributed.all_reduce(averaged)
                        close(averaged / world, expected[name], f"{what}, {name}")


def word_columns(rule: Rule) -> Tensor:
    """What a rule knows of the most columns."""
    values = [getattr(rule, f.name) for f in fields(rule)]  # type: ignore[arg-type]
    known = [v for f, v in zip(fields(rule), values) if f.name in rule.per_column and v is not None]  # type: ignore[arg-type]
    if type(rule).__name__ in ("Soft", "LogWeights"):
        return rule.matrix[0]  # type: ignore[attr-defined]
    return max(known, key=len, default=torch.empty(0))


@pytest.mark.parametrize("transport", ["gather", "ring"])
@pytest.mark.parametrize("world", [2, 3])
def test_many_processes_give_the_loss_and_the_gradients_of_one(world: int, transport: str) -> None:
    spread(every_pairing, world, transport)


def shared_owned_and_counted(rank: int, world: int, transport: str) -> None:
    whole, part = Given(), share(rank, world)
    here, there = leaves(part), leaves(whole)
    g = torch.Generator().manual_seed(2)
    queue = normalize(torch.randn(6, 4, generator=g, dtype=torch.float64), dim=1)
    y = torch.randint(3, (N + 6,), generator=g)
    owner = torch.tensor([0, 4, 4, 10, 6])  # of the extra candidates, among all anchors
    inside = (owner >= part.rows.start) & (owner < part.rows.stop)
    for both, labelled in itertools.product((True, False), repeat=2):
        one = Labels(y[:N], y) & NotSelf() if labelled else Diagonal()
        columns = torch.cat([part.row(y[:N]), y[N:]])
        many = Labels(part.row(y[:N]), columns) & NotSelf() if labelled else Diagonal()
        with transported(transport):  # a queue, the same on every process
            loss = contrast(here["q"], here["k"], many, extra=queue, shared=True, both=both, backend="tiled", tile=4)
        with alone():
            expected = contrast(there["q"], there["k"], one, extra=queue, both=both, backend="reference")
        close(loss, expected, f"shared, {one}")
        for name, cut in (("q", part.rows), ("k", part.rows)):
            a, b = (
                torch.autograd.grad(loss, here[name], retain_graph=True)[0],
                torch.autograd.grad(expected, there[name], retain_graph=True)[0],
            )
            close(a / world, b[cut], f"shared, {one}, {name}")
    with alone():
        expected = contrast(there["q"], there["k"], extra=there["extra"], owner=owner)
    own = here["extra"].detach().new_tensor(there["extra"].detach().tolist())[inside].requires_grad_()
    with transported(transport):  # hard negatives that belong to one anchor need not travel
        loss = contrast(here["q"], here["k"], extra=own, owner=owner[inside] - part.rows.start)
    close(loss, expected, "owned")
    close(torch.autograd.grad(loss, own)[0] / world, torch.autograd.grad(expected, there["extra"])[0][inside], "owned")

    rows, expected_rows = Stats(), Stats()
    with transported(transport):
        losses = contrast(
            here["q"], here["k"], extra=here["extra"], scale=4.0, reduction="none", backend="tiled", tile=3, stats=rows
        )
    with alone():
        whole_losses = contrast(
            there["q"], there["k"], extra=there["extra"], scale=4.0, reduction="none", stats=expected_rows
        )
    close(losses, whole_losses[part.rows], "losses of rows")
    close(rows.rank, expected_rows.rank[part.rows], "rank")
    for name in ("accuracy", "alignment", "uniformity", "negatives", "masked", "without_positive"):
        close(getattr(rows, name).double(), getattr(expected_rows, name).double(), name)

    with transported(transport):  # two views of each row: rows of different processes have the same number in theirs
        z = torch.cat([here["q"], here["k"]])
        loss = contrast(z, z, views(len(here["q"])), scale=5.0)
    with alone():
        z = torch.cat([there["q"], there["k"]])
        close(loss, contrast(z, z, views(N), scale=5.0), "views")

    bad = here["k"].detach().clone()
    if rank == 1 and len(bad):
        bad[0] = torch.nan
    said = "row 0 holds NaN" if rank == 1 else "Another process"
    if world == 2:
        with pytest.raises(DataError, match=said):
            contrast(here["q"], bad)


@pytest.mark.parametrize("transport", ["gather", "ring"])
@pytest.mark.parametrize("world", [2, 3])
def test_queues_owners_by_products_and_errors(world: int, transport: str) -> None:
    spread(shared_owned_and_counted, world, transport)
