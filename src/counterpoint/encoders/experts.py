"""Experts: copies of a perceptron, of which each text or token uses its own; and where an encoder's perceptrons are.

Which they use is decided by the texts that are passing, see `Passage`; `counterpoint.encoders.moe` is the encoder.

Sources: Komatsuzaki et al. 2022 (sparse upcycling), arXiv 2212.05055; Shazeer et al. 2017 (top-k routing), arXiv
1701.06538; Hallee et al. 2024 (enforced routing), arXiv 2401.15713.
"""

from __future__ import annotations

import copy
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.errors import ConfigError, ModelError


@dataclass
class Said:
    """What the routers of one layer said: of each token its text, logits and chosen experts, ``(T,)``, ``(T, E)``.

    owner: ``(T,)``, the text of each token.
    """

    owner: Tensor
    logits: Tensor
    chosen: Tensor


@dataclass
class Passage:
    """What the experts must know of the texts that are passing. weights: ``(N, E)``, by domain (None: routers choose).
    first: ``(N, W)``, what stands in the first place of each text. order: ``(N,)`` that of the texts in the passes.
    owner: ``(T,)`` of which text each token is, -1: padding. also: ``(E,)`` bool, experts that take part with a weight
    of 0 where no text here is theirs, because another process's is. said: by the routers so far.

    count: N, of texts. at: how many of them have passed.
    """

    count: int
    weights: Tensor | None
    first: Tensor | None
    order: Tensor
    owner: Tensor
    at: int = 0
    also: Tensor | None = None
    said: list[Said] = field(default_factory=list)


passage: ContextVar[Passage | None] = ContextVar("passage", default=None)
"""Of this thread: several may encode with one model at once."""


class Experts(nn.Module):
    """``Σ_e w_e f_e(x)``: copies f of a perceptron, weighted by the routing of each text or token.

    An expert that is given nothing computes nothing: its gradient stays None, so that no optimiser moves it, neither by
    momentum nor by weight decay. router: width of what a router sees (0: no router). top: experts that it chooses.
    by: for each ``token``, or ``text`` by its mean logits. The weights of those chosen are scaled to sum 1; with top=1
    the weight is 1, and the router learns from its own losses alone.

    dense: the perceptron. count: of copies.
    """

    def __init__(self, dense: nn.Module, count: int, *, router: int = 0, top: int = 1, by: str = "text") -> None:
        super().__init__()
        self.top, self.by = top, by
        # No list: the elements of a list run one after another in every pass, which is when FSDP gathers them.
        self.experts = nn.ModuleDict({str(e): copy.deepcopy(dense) if e else dense for e in range(count)})
        self.router = nn.Linear(router, count, bias=False) if router else None
        if self.router is not None:
            nn.init.normal_(self.router.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """x: ``(N, T, D)``, or ``(T, D)`` of texts laid end to end. Returns the same shape. Raises `ModelError` outside
        of an encoder's pass."""
        passing = passage.get()
        if passing is None:
            raise ModelError("Experts were called outside their encoder, which alone knows the domains of the texts.")
        flat = x.flatten(0, -2)
        weights = self._weights(flat, passing)
        experts = list(self.experts.values())
        if len(experts) == 1:
            return experts[0](x)  # type: ignore[no-any-return]
        used = weights.detach() > 0
        if bool(used.all(0).any()) and int(used.any(0).sum()) == 1:  # all to one: nothing to take apart
            expert = int(used[0].int().argmax())
            out = experts[expert](x) * weights[:, expert].view(*x.shape[:-1], 1)
        else:
            out = _shared(experts, flat, weights, used).unflatten(0, x.shape[:-1])
        if passing.also is not None:
            for e in (passing.also & ~used.any(0)).nonzero().flatten().tolist():
                out = out + 0 * experts[e](flat[:1]).sum()
        return out  # type: ignore[no-any-return]

    def _weights(self, flat: Tensor, passing: Passage) -> Tensor:
        """``(T, E)``; padding has none."""
        owner, real = passing.owner, (passing.owner >= 0).unsqueeze(1)
        if passing.weights is not None:
            return passing.weights.to(flat.dtype)[owner] * real
        assert self.router is not None
        logits = self.router(flat)
        if self.by == "text":
            logits = means(logits, owner, passing.count)[owner]
        probability = logits.softmax(-1)
        best, chosen = probability.topk(self.top, dim=-1)
        weights = torch.zeros_like(probability).scatter(1, chosen, best / best.sum(-1, keepdim=True))
        passing.said.append(Said(owner, logits, F.one_hot(chosen, len(self.experts)).sum(1).to(flat.dtype) / self.top))
        return weights * real


def _shared(experts: list[nn.Module], flat: Tensor, weights: Tensor, used: Tensor) -> Tensor:
    """``(T, D)``: each token through the experts that it uses ``(T, E)``, weighted."""
    out: Tensor | None = None
    for e, f in enumerate(experts):
        if len(at := used[:, e].nonzero().squeeze(1)):
            part = f(flat[at]) * weights[at, e].unsqueeze(1)
            out = part.new_zeros(len(flat), part.shape[-1]) if out is None else out
            out = out.index_add(0, at, part)
    return experts[0](flat) * 0 if out is None else out  # not one real token


def means(x: Tensor, owner: Tensor, count: int) -> Tensor:
    """The mean ``(N, E)`` of each text's tokens ``(T, E)``; zeros for a text that has none here.

    x: of all tokens. owner: ``(T,)`` long, the text of each, -1: none. count: N.
    """
    real = owner >= 0
    sums = x.new_zeros(count, x.shape[1]).index_add(0, owner[real], x[real])
    return sums / torch.bincount(owner[real], minlength=count).clamp(min=1).unsqueeze(1)


def enter(transformer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
    """Before each pass of the transformer: whose tokens these are, and the domain's in the first place of each.

    transformer: whose pass it is. args, kwargs: what it is called with; both come back.
    """
    passing = passage.get()
    if passing is None:
        return args, kwargs
    if (groups := kwargs.get("groups")) is not None:  # end to end, without padding
        lengths = [length for _, count, length in groups for _ in range(count)]
        rows = passing.order[passing.at : passing.at + len(lengths)]
        passing.owner = rows.repeat_interleave(torch.tensor(lengths, device=rows.device))
        words = kwargs["inputs_embeds"]
        starts = F.pad(torch.tensor(lengths, device=rows.device).cumsum(0), (1, 0))[:-1]
        if passing.first is not None:
            kwargs["inputs_embeds"] = words.index_copy(1, starts, passing.first[rows].unsqueeze(0).to(words.dtype))
    else:
        mask = kwargs["attention_mask"].bool()
        rows = passing.order[passing.at : passing.at + len(mask)]
        passing.owner = torch.where(mask, rows.unsqueeze(1), -1).flatten()
        if passing.first is not None:
            words = transformer.get_input_embeddings()(kwargs.pop("input_ids"))  # type: ignore[operator]
            kwargs["inputs_embeds"] = torch.cat([passing.first[rows].unsqueeze(1).to(words.dtype), words[:, 1:]], 1)
    passing.at += len(rows)
    return args, kwargs


# --- where the perceptrons are ---------------------------------------------------------------------------------------


@dataclass
class Site:
    """A perceptron inside an encoder. identity: a part of it that stands elsewhere, and becomes nothing.

    parent: the module that holds it, under name. dense: the perceptron.
    """

    parent: nn.Module
    name: str
    dense: nn.Module
    identity: tuple[nn.Module, str] | None = None

    def put(self, experts: Experts) -> None:
        """Put experts in the place of the perceptron."""
        setattr(self.parent, self.name, experts)
        if self.identity is not None:
            setattr(*self.identity, nn.Identity())


def perceptrons(encoder: nn.Module) -> list[Site]:
    """The perceptrons of an encoder's layers, in order. BERT and its kin have theirs in two parts, the second of which
    also adds and normalises: that stays."""
    found = []
    for layer in encoder.modules():
        inner, out = getattr(layer, "intermediate", None), getattr(layer, "output", None)
        if isinstance(inner, nn.Module) and isinstance(dense := getattr(out, "dense", None), nn.Linear):
            assert isinstance(out, nn.Module)
            found.append(Site(out, "dense", nn.Sequential(inner, dense), (layer, "intermediate")))
            continue
        for name in ("mlp", "ffn"):
            dense = getattr(layer, name, None)
            if isinstance(dense, nn.Module) and sum(isinstance(m, nn.Linear) for m in dense.modules()) > 1:
                found.append(Site(layer, name, dense))
    if not found:
        raise ConfigError(
            f"No perceptron was found in the layers of this {type(encoder).__name__} that could be copied."
        )
    return found
