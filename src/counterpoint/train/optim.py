"""Optimisers: parameter groups from the settings, LARS, and sharpness-aware minimisation."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from counterpoint.errors import ConfigError
from counterpoint.train.config import TrainConfig

Norms: TypeAlias = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""The norm of each tensor, ``()`` each; where tensors are parts of larger ones, that of the whole."""


def own_norms(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """The norm of each of the tensors, ``()`` each."""
    return [x.norm() for x in tensors]


def build_optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser of ``config.optimizer`` over the trainable parameters of ``module``; see `optimizer_of`."""
    factors = lr_factors(module, config)
    return optimizer_of({n: p for n, p in module.named_parameters() if p.requires_grad}, factors, config)


def optimizer_of(
    weights: Mapping[str, Tensor], factors: Mapping[str, float], config: TrainConfig, *, norms: Norms = own_norms
) -> torch.optim.Optimizer:
    """The optimiser of ``config.optimizer`` over weights by name, with the factors that `lr_factors` gives.

    Parameters with fewer than two axes (biases, normalisation, scales) get no weight decay.

    Every group carries ``initial_lr``, its peak rate; `set_lr` scales it by the schedule's factor.

    norms: computes those of weights and gradients.
    """
    groups: dict[tuple[float, bool], list[Tensor]] = {}
    for name, weight in weights.items():
        groups.setdefault((factors[name], weight.dim() >= 2), []).append(weight)
    built: list[dict[str, Any]] = [
        {
            "params": group,
            "lr": config.lr * factor,
            "initial_lr": config.lr * factor,
            "weight_decay": config.weight_decay if matrix else 0.0,
        }
        for (factor, matrix), group in groups.items()
    ]
    if config.optimizer == "adamw":
        # One pass over the memory instead of a dozen; element by element, so as deterministic as the plain one.
        fused = all(p.device.type in ("cuda", "cpu") and p.is_floating_point() for p in weights.values())
        return torch.optim.AdamW(built, lr=config.lr, betas=config.betas, eps=config.eps, fused=fused)
    if config.optimizer == "sgd":
        return torch.optim.SGD(built, lr=config.lr, momentum=config.momentum)
    for group, (_, matrix) in zip(built, groups):
        group["adapt"] = matrix
    return LARS(built, lr=config.lr, momentum=config.momentum, norms=norms)


def lr_factors(module: nn.Module, config: TrainConfig) -> dict[str, float]:
    """The factor on the learning rate of every trained parameter, by name.

    ``config.groups`` maps regular expressions, searched in parameter names, to factors; the first match wins, and 0
    freezes (``requires_grad=False``). An expression that matches no parameter is a `ConfigError`.

    module: what is trained.
    """
    names = [name for name, _ in module.named_parameters()]
    patterns: list[tuple[str, re.Pattern[str], float]] = []
    for text, factor in config.groups.items():
        try:
            pattern = re.compile(text)
        except re.error as error:
            raise ConfigError(f"groups: {text!r} is not a regular expression ({error}).") from error
        if factor < 0:
            raise ConfigError(f"groups: the factor of {text!r} is {factor}; give 0 (freeze) or more.")
        if not any(pattern.search(name) for name in names):
            raise ConfigError(f"groups: {text!r} matches no parameter. There are: {_some(names)}.")
        patterns.append((text, pattern, factor))
    used: set[str] = set()
    found = {}
    for name, parameter in module.named_parameters():
        text, factor = next(((t, f) for t, pattern, f in patterns if pattern.search(name)), ("", 1.0))
        used.add(text)
        if factor == 0:
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            found[name] = factor
    for text, _, _ in patterns:
        if text not in used:
            warnings.warn(f"groups: {text!r} has no effect, earlier expressions match all it matches.", stacklevel=3)
    if not found:
        raise ConfigError(f"{type(module).__name__} has no trainable parameter left; look at the factors 0 in groups.")
    return found


def _some(names: list[str], limit: int = 12) -> str:
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Learning rate of every group = its peak times ``factor`` (see `counterpoint.train.schedule.lr_factor`).

    optimizer: made by `optimizer_of`.
    """
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


class LARS(torch.optim.Optimizer):
    """SGD with momentum whose rate adapts to each tensor, for very large batches.

    ``local = trust |w| / (|g| + weight_decay |w| + eps)``,
    ``v <- momentum v + lr · local · (g + weight_decay w)``, ``w <- w - v``. As in the paper the rate is
    inside the momentum (torch's SGD has it outside, which differs while the rate changes). Groups with
    ``adapt=False`` (biases, normalisation) use ``local = 1``, as does a tensor whose weight or gradient is
    all zero. norms: computes |w| and |g|.

    params, lr, momentum, weight_decay: as of torch's SGD. trust, eps: see above.

    Source: You et al. 2017, arXiv 1708.03888, algorithm 1; exclusion of biases as in Grill et al. 2020, arXiv
    2006.07733.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
        eps: float = 1e-9,
        adapt: bool = True,
        norms: Norms = own_norms,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust": trust,
            "eps": eps,
            "adapt": adapt,
        }
        super().__init__(params, defaults)
        self._norms = norms

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step from the gradients there are. closure: computes the loss anew first, with gradients (None: they are
        there). Returns its loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            decay = group["weight_decay"]
            moved = [p for p in group["params"] if p.grad is not None]
            norms = self._norms([*moved, *(p.grad for p in moved)]) if moved and group["adapt"] else []
            for i, p in enumerate(moved):
                update = p.grad + decay * p if decay else p.grad.clone()
                if group["adapt"]:
                    w, g = norms[i], norms[len(moved) + i]
                    local = group["trust"] * w / (g + decay * w + group["eps"])
                    update *= torch.where((w > 0) & (g > 0), local, 1.0)
                update *= group["lr"]
                state = self.state[p]
                if "velocity" in state:
                    update += group["momentum"] * state["velocity"]
                state["velocity"] = update
                p -= update
        return loss


def sam_gradient(
    params: Iterable[Tensor],
    closure: Callable[[], Tensor],
    *,
    rho: float,
    norm: Callable[[Sequence[Tensor]], Tensor] = torch.nn.utils.get_total_norm,
) -> Tensor:
    """Leave in ``.grad`` the gradient at ``w + rho g / |g|``, the worst nearby point to first order; weights
    unchanged.

    closure: computes the loss, calls ``backward`` and returns the loss; it is called twice, on the same batch
    and with the same random draws (dropout), the state of the generators being replayed. Gradients present
    before are discarded. norm: of all gradients together. Returns the loss at w, ``()``.

    State that a forward pass changes (statistics of
    batch normalisation) changes twice.

    params: with gradients. rho: radius of the neighbourhood.

    Source: Foret et al. 2021, arXiv 2010.01412, eqs. 2 and 3; the norm is over all parameters together.
    """
    if rho <= 0:
        raise ConfigError(f"sam={rho}: the radius is positive; 0.05 is usual.")
    weights = list(params)
    devices = sorted({p.device.index for p in weights if p.device.type == "cuda"})
    cpu, cuda = torch.get_rng_state(), [torch.cuda.get_rng_state(d) for d in devices]
    _clear(weights)
    loss = closure().detach()
    moved = [p for p in weights if p.grad is not None]
    kept = [p.detach().clone() for p in moved]
    gradient = [p.grad for p in moved if p.grad is not None]
    length = norm(gradient)
    with torch.no_grad():
        # A gradient of exactly zero has no direction; the weights then stay where they are.
        scale = torch.where(length > 0, rho / length, 0.0)
        for p, g in zip(moved, gradient):
            p.add_(g * scale.to(g.device))
    _clear(weights)
    torch.set_rng_state(cpu)
    for device, state in zip(devices, cuda):
        torch.cuda.set_rng_state(state, device)
    try:
        closure()
    finally:
        with torch.no_grad():  # copied back, not subtracted: w + e - e is not w in floating point
            for p, w in zip(moved, kept):
                p.copy_(w)
    return loss


def sam_step(
    optimizer: torch.optim.Optimizer, params: Iterable[Tensor], closure: Callable[[], Tensor], *, rho: float
) -> Tensor:
    """One optimiser step with `sam_gradient`; returns the loss at the weights before it.

    optimizer: of params. closure, rho: as of `sam_gradient`.
    """
    loss = sam_gradient(params, closure, rho=rho)
    optimizer.step()
    return loss


def _clear(weights: Iterable[Tensor]) -> None:
    for p in weights:
        p.grad = None
