"""What training shows of the embeddings, and the watch that stops a run which has diverged or collapsed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.errors import DivergedError
from counterpoint.objectives.geometry import alignment, effective_rank, mean_pair_cosine, uniformity
from counterpoint.processes import alone, gathered, world

ROWS = 256
"""Most rows a reading looks at: its singular value decomposition then takes 5 to 20 ms, once per logged step."""
WATCHED = 128
"""Most rows that are looked at in every step."""
FEWEST = 4
"""Fewest rows that are judged: two rows never have an effective rank above 2."""
PATIENCE = 50
"""Consecutive collapsed steps that end a run."""


@torch.no_grad()
def readings(observed: Mapping[str, Tensor]) -> dict[str, float]:
    """Figures of the batch just trained on, of at most `ROWS` rows spread evenly over it and over the processes.

    observed: ``anchor`` and ``positive`` (N, D), ``scale`` and ``code_perplexity`` (), whichever the method showed.
    alignment: mean squared distance of positives. uniformity: log mean Gaussian potential (Wang & Isola 2020, arXiv
    2005.10242). effective_rank: directions in use (Roy & Vetterli 2007). random_cosine: mean cosine of different rows.
    accuracy: share of anchors whose positive is the nearest among all. temperature: 1 / scale. code_perplexity: codes
    of a quantiser that are in use (`counterpoint.objectives.codes.perplexity`).
    """
    out: dict[str, Tensor | float] = {}
    anchor, positive = observed.get("anchor"), observed.get("positive")
    a = None if anchor is None else _sample(anchor)
    p = None if positive is None or anchor is None or positive.shape != anchor.shape else _sample(positive)
    with alone():  # every process has the rows of all by now
        if a is not None and len(a) > 1:
            if p is not None:
                out["alignment"] = alignment(a, p)
                out["accuracy"] = ((a @ p.T).argmax(1) == torch.arange(len(a))).float().mean()
            out["uniformity"] = uniformity(a)
            out["effective_rank"] = effective_rank(a)
            out["random_cosine"] = mean_pair_cosine(a)
    if "code_perplexity" in observed:
        out["code_perplexity"] = observed["code_perplexity"]
    if "scale" in observed:
        out["temperature"] = 1 / observed["scale"].float().mean()
    return {name: float(value) for name, value in out.items()}


def _sample(rows: Tensor) -> Tensor:
    """Unit rows, on the CPU, where a decomposition of this size is faster than on a GPU."""
    most = max(1, ROWS // world())
    return F.normalize(gathered(_spread(rows, most).float()).cpu(), dim=-1)


@dataclass
class Sample:
    """The figures of one step, on their way from the device.

    names: of the figures. anchor: embeddings that are watched for collapse, if any. classes: of their rows. ready: when
    the copy is done (None: on a CPU).
    """

    step: int
    names: tuple[str, ...]
    figures: Tensor  # (K,) loss parts, gradient norm, mean cosine, participation ratio
    anchor: Tensor | None
    classes: Tensor | None
    ready: torch.cuda.Event | None


class Watch:
    """Looks at every step, without making a GPU wait: there the figures of a step are read during the next one.

    ``collapsed`` counts the consecutive steps, up to the last one read, in which the embeddings had collapsed: an
    effective rank below 2, or a mean cosine of different rows above 0.95. The rank of every step would cost a singular
    value decomposition, so a lower bound of it is computed first, the participation ratio (Σσ²)² / Σσ⁴ (by Hölder's
    inequality it is at most (Σσ)² / Σσ², and that at most the rank), and the rank itself only where that is below 2.

    Two classes that are told apart perfectly lie on one line (rank 1), as they should: with two labels or fewer in the
    batch the rank is not held against the run.

    ``still`` counts those of the ``steps`` read in which no gradient came: they taught nothing.
    """

    def __init__(self, collapsed: int = 0) -> None:
        self.collapsed = collapsed
        self.steps = self.still = 0
        self.figures: dict[str, float] = {}
        self._why = ""
        self._waiting: Sample | None = None

    @torch.no_grad()
    def see(
        self,
        step: int,
        losses: Mapping[str, Tensor],
        norm: Tensor | None,
        observed: Mapping[str, Tensor],
        classes: Tensor | None = None,
    ) -> None:
        """Take in a step. Raises `DivergedError` where a step read by now has a loss or gradient that is not finite.

        losses: the parts, by name. norm: of the gradient. observed: what the method shows, by name.
        """
        figures = {f"loss/{name}": value.detach().float() for name, value in losses.items()}
        if norm is not None:
            figures["grad_norm"] = norm.float()
        anchor = observed.get("anchor")
        if anchor is not None and len(anchor) >= FEWEST:
            anchor = F.normalize(_spread(anchor, WATCHED).float(), dim=-1)
            n, gram = len(anchor), anchor @ anchor.T
            trace = gram.trace()  # n, but for rows of zeros
            figures["cosine"] = (gram.sum() - trace) / (n * (n - 1))
            figures["participation"] = trace.square() / gram.square().sum().clamp_min(1e-30)
        values = torch.stack(list(figures.values()))
        ready = None
        if values.is_cuda:
            values = values.to("cpu", non_blocking=True)
            ready = torch.cuda.Event()
            ready.record()
        before, self._waiting = self._waiting, Sample(step, tuple(figures), values, anchor, classes, ready)
        if before is not None:
            self._read(before)
        if ready is None:
            self.flush()

    def flush(self) -> None:
        """Read what is still on its way."""
        if self._waiting is not None:
            sample, self._waiting = self._waiting, None
            self._read(sample)

    def _read(self, sample: Sample) -> None:
        if sample.ready is not None:
            sample.ready.synchronize()
        self.figures = dict(zip(sample.names, sample.figures.tolist()))
        for name, value in self.figures.items():
            if name.startswith("loss/") and not math.isfinite(value):
                part = name.removeprefix("loss/")
                raise DivergedError(
                    f"The loss part {part!r} is {value} at step {sample.step}. Checkpoints written before are kept. "
                    "Try a lower lr, a longer warmup, clip=1, or precision=float32; and look for NaN in the data."
                )
        if not math.isfinite(self.figures.get("grad_norm", 0.0)):
            raise DivergedError(
                f"The gradient's norm is {self.figures['grad_norm']} at step {sample.step}, though the losses are "
                "finite. Checkpoints written before are kept. Try a lower lr, a higher eps, or precision=float32."
            )
        self.steps += 1
        self.still += self.figures.get("grad_norm", 1.0) == 0
        self._why = self._collapse(sample)
        self.collapsed = self.collapsed + 1 if self._why else 0

    def _collapse(self, sample: Sample) -> str:
        """What shows that the embeddings of a step have collapsed ('' : nothing)."""
        if sample.anchor is None or "cosine" not in self.figures:
            return ""
        cosine = self.figures["cosine"]
        if cosine > 0.95:
            return f"different rows have a mean cosine of {cosine:.3f} (above 0.95)"
        if self.figures["participation"] < 2 and not (sample.classes is not None and len(sample.classes.unique()) <= 2):
            rank = float(effective_rank(sample.anchor))
            if rank < 2:
                return f"the embeddings' effective rank is {rank:.2f} (below 2)"
        return ""

    def explain(self, step: int) -> str:
        """The sentence of a stop for collapse at a step, with what to try."""
        return (
            f"The embeddings have collapsed: for {self.collapsed} steps up to step {step}, {self._why}, so the encoder "
            "tells hardly any two rows apart. Try a lower lr or a longer warmup; more or harder negatives (a larger "
            "batch); a higher temperature; without negatives, check the stop-gradient, the predictor and the "
            "normalisation layers; and look whether the rows are copies of each other (counterpoint data inspect). "
            "To train on regardless, set stop_on_collapse=False (--no-stop-on-collapse)."
        )


def _spread(rows: Tensor, most: int) -> Tensor:
    """At most ``most`` rows at even distances: neighbours in a batch may be alike (sorted by length, by class)."""
    return rows[:: max(1, -(-len(rows) // most))]
