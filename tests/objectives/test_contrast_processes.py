"""Many processes give the loss, the gradients and the by-products of one, whoever holds which rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from counterpoint.errors import DataError
from counterpoint.kernels import triton
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.engine.byproducts import Stats
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


class Given(NamedTuple):
    """Rows and extra candidates of all processes (rank None), or of one of them."""

    shares: tuple[int, ...] = (3, 8)
    extra: tuple[int, ...] = (4, 1)
    rank: int | None = None

    @property
    def n(self) -> int:
        return sum(self.shares)

    @property
    def rows(self) -> slice:
        return self.cut(self.shares)

    @property
    def more(self) -> slice:
        return self.cut(self.extra)

    def cut(self, counts: tuple[int, ...]) -> slice:
        if self.rank is None:
            return slice(0, sum(counts))
        start = sum(counts[: self.rank])
        return slice(start, start + counts[self.rank])

    def row(self, x: Tensor) -> Tensor:
        return x[: self.n][self.rows]

    def column(self, x: Tensor) -> Tensor:
        """Of candidates and extra ones."""
        return torch.cat([self.row(x), x[self.n :][self.more]])

    def own(self, matrix: Tensor) -> Tensor:
        """Of pairs, of which nothing is known where they are of two processes."""
        return torch.cat([matrix[self.rows, : self.n][:, self.rows], matrix[self.rows, self.n :][:, self.more]], 1)

    def parts(self) -> list[Given]:
        return [self._replace(rank=rank) for rank in range(len(self.shares))]


UNEQUAL = {2: Given(), 3: Given((5, 0, 6), (0, 3, 2))}


def block_diagonal(given: Given, g: torch.Generator) -> Tensor:
    """A matrix ``(N, N + K)`` that is 0 between different processes."""
    found = torch.rand(given.n, given.n + sum(given.extra), generator=g, dtype=torch.float64)
    own = torch.zeros_like(found)
    for part in given.parts():
        own[part.rows, part.rows] = 1
        own[part.rows, given.n + part.more.start : given.n + part.more.stop] = 1
    return found * own


def pairings(part: Given, seed: int = 0) -> Iterator[Rule]:
    """Every rule at least once, for these rows."""
    g = torch.Generator().manual_seed(seed)
    both = part.n + sum(part.extra)
    y = torch.randint(4, (both,), generator=g) - 1
    source, times = torch.arange(both) // 3, torch.rand(both, generator=g, dtype=torch.float64)
    teacher = normalize(torch.randn(both, 3, generator=g, dtype=torch.float64), dim=1)
    tags = torch.rand(both, 6, generator=g) > 0.6
    matrix = block_diagonal(part, g)
    row, column = part.row, part.column
    yield Diagonal()
    yield Diagonal(own=True) & FalseNegatives(row(teacher), column(teacher), margin=0.3)
    yield Diagonal() & NotSame(row(source), column(source)) & Hardness(0.5)
    yield Diagonal() & Decoupled() & NotNear(row(times), 0.2, row(times), row(source), row(source))
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
    inside = part.own(matrix)[:, : len(row(y))]
    index = (inside > 0.5).nonzero()
    yield Listed(index[:, 0], index[:, 1], inside[index[:, 0], index[:, 1]])


COUNT = sum(1 for _ in pairings(Given()))


def leaves(part: Given, seed: int = 1, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    sizes = {"q": (part.n, part.rows), "k": (part.n, part.rows), "extra": (sum(part.extra), part.more)}
    given = {
        name: normalize(torch.randn(n, 4, generator=g, dtype=torch.float64), dim=1)[cut]
        for name, (n, cut) in sizes.items()
    }
    given |= {"scale": torch.tensor(3.0, dtype=torch.float64), "bias": torch.tensor(-1.0, dtype=torch.float64)}
    return {name: x.to(dtype).requires_grad_() for name, x in given.items()}


def loss_of(pairing: Rule, given: dict[str, Tensor], **how: Any) -> Tensor:
    bias = given["bias"] if how.get("form") == "sigmoid" else None
    extra = given["extra"] if how.pop("with_extra", True) else None
    return contrast(given["q"], given["k"], pairing, scale=given["scale"], bias=bias, extra=extra, **how)


def gradients(loss: Tensor, given: dict[str, Tensor]) -> dict[str, Tensor | None]:
    found = torch.autograd.grad(loss, list(given.values()), allow_unused=True)
    return dict(zip(given, found))


def close(a: Tensor, b: Tensor, what: str) -> None:
    tolerance = (1e-9, 1e-10) if a.dtype == torch.float64 else (1e-4, 1e-4)
    torch.testing.assert_close(
        a, b.to(a.dtype), rtol=tolerance[0], atol=tolerance[1], msg=lambda text: f"{what}: {text}"
    )


def possible(one: Rule, number: int, form: str, both: bool, n: int | None = None) -> bool:
    """n: number of rows, where there are no extra candidates."""
    words = {type(word).__name__ for word in one.words()}
    if form == "sigmoid" and (both or words & {"Debiased", "Hardness", "TeacherSimilarity"}):
        return False
    if both and number == COUNT - 2:
        return False  # a teacher with a temperature of 0.01: one direction at a time
    return n is None or not any(len(word_columns(w)) > n for w in one.words())  # it knows of extra candidates


def equal(whole: Given, rank: int, transport: str, number: int, seed: int, dtype: torch.dtype, **how: Any) -> None:
    """One loss and its gradients, by all processes and by this one alone."""
    part, world = whole._replace(rank=rank), len(whole.shares)
    one, many = (next(itertools.islice(pairings(x, seed), number, None)) for x in (whole, part))
    what = f"{transport}, {one}, {whole}, {how}"
    here, there = leaves(part, dtype=dtype), leaves(whole)
    with transported(transport):  # type: ignore[arg-type]
        loss = loss_of(many, here, **how)
    found = gradients(loss, here)
    with alone():
        expected_loss = loss_of(one, there, **{**how, "backend": "reference"})
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


FORMS = [("softmax", True), ("softmax", False), ("marginal", True), ("marginal", False), ("sigmoid", False)]


def every_pairing(rank: int, world: int) -> None:
    whole = UNEQUAL[world]
    for number, one in enumerate(pairings(whole)):
        for (form, both), transport in itertools.product(FORMS, ("gather", "ring")):
            if possible(one, number, form, both):
                equal(whole, rank, transport, number, 0, torch.float64, form=form, both=both, backend="tiled", tile=4)


@pytest.mark.parametrize("world", [2, 3])
def test_every_rule_and_form_of_many_processes_is_that_of_one(world: int) -> None:
    spread(every_pairing, world)


def drawn(rank: int, world: int) -> None:
    """The same examples on every process, since they are drawn from a fixed seed."""
    share = st.tuples(*[st.integers(0, 7)] * world)

    @settings(max_examples=80, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
    @given(
        shares=share.filter(any),
        extra=share,
        transport=st.sampled_from(["gather", "ring"]),
        number=st.integers(0, COUNT - 1),
        seed=st.integers(0, 99),
        dtype=st.sampled_from([torch.float64, torch.float32]),
        form=st.sampled_from(FORMS),
        backend=st.sampled_from(["reference", "tiled"]),
        with_extra=st.booleans(),
        tile=st.integers(1, 6),
    )
    def check(shares: Any, extra: Any, number: int, seed: int, form: Any, with_extra: bool, **how: Any) -> None:
        whole = Given(shares, extra)
        one = next(itertools.islice(pairings(whole, seed), number, None))
        assume(possible(one, number, form[0], form[1], None if with_extra else whole.n))
        equal(whole, rank, number=number, seed=seed, form=form[0], both=form[1], with_extra=with_extra, **how)

    check()


@pytest.mark.parametrize("world", [2, 3])
def test_shares_of_any_size(world: int) -> None:
    spread(drawn, world)


def shared_owned_and_counted(rank: int, world: int, transport: str) -> None:
    whole = UNEQUAL[world]
    part = whole._replace(rank=rank)
    here, there = leaves(part), leaves(whole)
    N = whole.n
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


def same(one: Tensor, there: dict[str, Tensor], many: Tensor, here: dict[str, Tensor], cuts: dict[str, Any]) -> None:
    """A loss by this process alone and by all, with the gradients of ``there`` and of this process's parts of them."""
    close(many, one, "loss")
    with alone():
        expected = gradients(one, there)
    for name, found in gradients(many, here).items():
        close(found / len(cuts["shares"]), expected[name][cuts[name]], name)  # type: ignore[index, operator]


def known_of_single_anchors_and_of_all(rank: int, world: int, transport: str) -> None:
    whole = UNEQUAL[world]
    part, N = whole._replace(rank=rank), whole.n
    g = torch.Generator().manual_seed(4)
    y, matrix = torch.randint(4, (N + 5,), generator=g), torch.rand(N, N, generator=g, dtype=torch.float64)
    cuts: dict[str, Any] = {"shares": whole.shares, "q": part.rows, "k": part.rows, "extra": part.more}

    def given(part: Given, *names: str) -> dict[str, Tensor]:
        return {name: leaves(part)[name] for name in names}

    with transported(transport):  # type: ignore[arg-type]
        # Rules that know of the hard negatives of single anchors too, which do not travel.
        owner = torch.tensor([0, 4, 4, 10, 6])
        inside = (owner >= part.rows.start) & (owner < part.rows.stop)
        there, here = given(whole, "q", "k", "extra"), given(part, "q", "k")
        here["extra"] = there["extra"].detach()[inside].requires_grad_()
        kept = torch.cat([part.row(y[:N]), y[N:][inside]])
        with alone():
            pairing = Diagonal() & NotSame(y[:N], y)
            one = contrast(there["q"], there["k"], pairing, extra=there["extra"], owner=owner)
        pairing = Diagonal() & NotSame(part.row(y[:N]), kept)
        mine = owner[inside] - part.rows.start
        many = contrast(here["q"], here["k"], pairing, extra=here["extra"], owner=mine)
        same(one, there, many, here, {**cuts, "extra": inside})

        # Targets of the candidates of all processes.
        for form in ("softmax", "sigmoid"):
            there, here = given(whole, "q", "k"), given(part, "q", "k")
            with alone():
                one = contrast(there["q"], there["k"], Soft(matrix), form=form)  # type: ignore[arg-type]
            targets = Soft(matrix[part.rows], first=part.rows.start)
            same(one, there, contrast(here["q"], here["k"], targets, form=form), here, cuts)  # type: ignore[arg-type]

        # A process that has no hard negative, where others have.
        some = Given(whole.shares, (0, *whole.extra[1:]))
        there, here = given(some, "q", "k", "extra"), given(some._replace(rank=rank), "q", "k", "extra")
        with alone():
            one = contrast(there["q"], there["k"], extra=there["extra"], both=True)
        if rank == 0:
            del here["extra"]
        many = contrast(here["q"], here["k"], extra=here.get("extra"), both=True)
        same(one, there, many, here, {**cuts, "extra": some._replace(rank=rank).more})


def both_transports(rank: int, world: int) -> None:
    for transport in ("gather", "ring"):
        shared_owned_and_counted(rank, world, transport)
        known_of_single_anchors_and_of_all(rank, world, transport)


@pytest.mark.parametrize("world", [2, 3])
def test_queues_owners_by_products_and_errors(world: int) -> None:
    spread(both_transports, world)


def kernels(rank: int, world: int) -> None:
    whole = UNEQUAL[world]
    for transport, number in itertools.product(("gather", "ring"), (0, 1, 7, 14)):
        how = {"form": "softmax", "both": number != 1, "backend": "triton", "tile": 16}
        equal(whole, rank, transport, number, 0, torch.float32, **how)


@pytest.mark.skipif(not triton.interpreted(), reason="Triton's kernels are not interpreted here")
def test_tritons_kernels_over_processes() -> None:
    spread(kernels, 3)
