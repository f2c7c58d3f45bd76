"""From a memory budget to the number of encoder passes.

What a pass takes is measured, once for each encoder: forward and backward on made-up items of the largest kind, 1, 2,
4, ... of them, until what is kept for the backward pass outweighs the gradients of the weights. From there on the peak
is a line in the number of items. On CUDA the allocator is asked; elsewhere every operation's tensors are counted for as
long as they live. Neither depends on the values in the data, so a resumed run finds the same passes.

Counted are tensors: what an operation uses inside itself, and what a CUDA context takes (some 0.5 GiB), come on top.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from counterpoint import processes
from counterpoint.data.batch import Batch, Data
from counterpoint.errors import ConfigError
from counterpoint.train.batchnorm import untouched
from counterpoint.train.config import TrainConfig, parse_bytes
from counterpoint.train.passes import lengths, number, sample

COPIES = {"adamw": 2, "sgd": 1, "lars": 1}
"""Tensors as large as the weights that an optimiser keeps."""


class Budget:
    """Bytes that a training step may take, and how many passes each call of an encoder then needs.

    memory: bytes. module: all that is trained, with its teachers and memories. copies: tensors as large as the trained
    weights that training holds beside them (gradients, moments, an average).

    A step's room is what is left beside the module, these copies, two batches (one is made while the other trains) and,
    for each item, four times its embedding: as it is, at unit length, and the gradients of both. Where processes share
    a batch, the embeddings of all of them and their gradients come on top.
    """

    def __init__(self, memory: int, module: nn.Module, *, copies: int = 1) -> None:
        self.memory, self.module, self.copies = memory, module, copies
        self._lines: dict[Any, Line] = {}
        self._items = self._data = self._kept = 0

    @classmethod
    def of(cls, config: TrainConfig, module: nn.Module) -> Budget | None:
        """The budget that the settings name, if they do.

        config: of the training. module: what is trained, for its size.
        """
        if config.memory is None:
            return None
        copies = 1 + COPIES[config.optimizer] + (config.ema > 0) + 2 * (config.sam > 0)
        return cls(parse_bytes(config.memory), module, copies=copies)

    def begin(self, batch: Batch) -> None:
        """Called before the losses of a batch: how much of the room its views take."""
        self._items = sum(len(view) for view in batch.views)
        self._data = sum(_bytes(_tensors(view.data)) for view in batch.views)
        self._kept = 0

    def passes(self, encoder: nn.Module, run: Callable[[Data], Tensor], data: Data) -> int:
        """How many passes ``encoder`` needs for ``data``; 0: all of it fits as it is, graph and all.

        run: encodes data. Raises `ConfigError` where not one item fits.
        """
        costs = lengths(data)
        if not len(costs):
            return 0
        line = self._line(encoder, run, data)
        items, longest = self._items or len(costs), int(costs.max())
        fixed = self._fixed()
        embeddings = items * line.embedding * (4 if processes.world() == 1 else 4 + 2 * processes.world())
        batch = 2 * (self._data or _bytes(_tensors(data))) + embeddings
        room = self.memory - fixed - batch
        one = line.base + line.each * longest
        if one > room - self._kept:
            least = fixed + batch + self._kept + one
            raise ConfigError(
                f"memory={shown(self.memory)} does not hold a single item. {type(encoder).__name__} takes {shown(one)} "
                f"for one{f' of {longest} tokens' if longest > 1 else ''}, beside {shown(fixed)} for weights, "
                f"gradients and optimiser and {shown(batch + self._kept)} for a batch of {items} items and their "
                f"embeddings. Give memory={shown(least, up=True)} or more, or make the batch smaller."
            )
        # Graphs are kept in one half of the room, so that the other is left for whatever is encoded after it.
        whole = line.base + line.each * longest * len(costs)
        if torch.is_grad_enabled() and self._kept + whole <= room / 2:
            self._kept += int(whole)
            return 0
        capacity = (room - self._kept - line.base) / line.each if line.each > 0 else longest * len(costs)
        count = number(costs, int(min(capacity, longest * len(costs))))
        return count if count > 1 or torch.is_grad_enabled() else 0

    def _fixed(self) -> int:
        """Bytes of the module and of the copies of what it trains, on this process."""
        trained = _bytes(p for p in self.module.parameters() if p.requires_grad)
        return _bytes((*self.module.parameters(), *self.module.buffers())) + self.copies * trained

    def _line(self, encoder: nn.Module, run: Callable[[Data], Tensor], data: Data) -> Line:
        length = _longest(encoder, data)
        shapes = () if length > 1 else tuple(x.shape[1:] for x in _tensors(data))
        key = (encoder, torch.is_grad_enabled(), length, shapes)
        if key not in self._lines:
            self._lines[key] = self._measure(encoder, run, data, length)
        return self._lines[key]

    def _measure(self, encoder: nn.Module, run: Callable[[Data], Tensor], data: Data, length: int) -> Line:
        device = next(iter(_tensors(data))).device
        weights = [p for p in encoder.parameters() if p.requires_grad]
        gradients, room = _bytes(weights), self.memory - self._fixed()
        generators = torch.random.fork_rng([device] if device.type == "cuda" else [])
        with generators, processes.alone(), untouched(encoder.modules()):
            step(run, sample(data, 1, length), weights, device)  # what is set up at the first call does not count
            rows, before = 1, step(run, sample(data, 1, length), weights, device)
            while True:
                after = step(run, sample(data, 2 * rows, length), weights, device)
                each = max(0.0, (after.peak - before.peak) / rows)
                rows, before = 2 * rows, after
                if after.kept >= gradients or after.peak + each * rows > room:
                    break
        return Line(max(0.0, after.peak - each * rows), each / length, after.embeddings // rows)


@dataclass(frozen=True)
class Line:
    """Bytes of a pass: ``base`` and ``each`` for every token (or item), with the embedding of an item left over."""

    base: float
    each: float
    embedding: int


@dataclass(frozen=True)
class Step:
    """Bytes of a forward and backward pass: at most at once, between the two, of its embeddings.

    peak: at most at once. kept: between the two.
    """

    peak: int
    kept: int
    embeddings: int


def step(run: Callable[[Data], Tensor], data: Data, weights: list[nn.Parameter], device: torch.device) -> Step:
    """What encoding ``data`` and differentiating by ``weights`` takes; no ``.grad`` is touched.

    run: encodes. device: where.
    """
    with _Allocator(device) if device.type == "cuda" else Tally() as memory:
        z = run(data)
        kept = memory.now
        if z.requires_grad:
            torch.autograd.grad(z, weights, torch.ones_like(z), allow_unused=True)
        return Step(memory.peak, kept, _bytes([z]))


class Tally(TorchDispatchMode):
    """Bytes of the tensors that were made inside and are alive: ``now``, and at most (``peak``)."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor) and x.layout == torch.strided:
                storage = x.untyped_storage()
                if storage._cdata not in given and storage._cdata not in self._known:  # not a view, not in place
                    self._known.add(storage._cdata)
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return out

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


class _Allocator:
    """The same, as CUDA's caching allocator knows it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __enter__(self) -> _Allocator:
        torch.cuda.synchronize(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        self._before = torch.cuda.memory_allocated(self._device)
        return self

    def __exit__(self, *error: object) -> None: ...

    @property
    def now(self) -> int:
        return torch.cuda.memory_allocated(self._device) - self._before

    @property
    def peak(self) -> int:
        return torch.cuda.max_memory_allocated(self._device) - self._before


def shown(count: float, *, up: bool = False) -> str:
    """Bytes as `parse_bytes` reads them; up: not less than they are.

    count: bytes.
    """
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            value = count / size
            return f"{math.ceil(10 * value) / 10 if up else round(value, 1):g}{unit}"
    return f"{math.ceil(count)}B"


def _longest(encoder: nn.Module, data: Data) -> int:
    """Tokens of the largest item: what the encoder says (``max_length``), or what the data holds."""
    if isinstance(data, Tensor) or "attention_mask" not in data:
        return 1
    said = [getattr(m, "max_length", None) for m in encoder.modules()]
    return max((n for n in said if isinstance(n, int)), default=data["attention_mask"].shape[1])


def _tensors(data: Data) -> Iterable[Tensor]:
    return (data,) if isinstance(data, Tensor) else data.values()


def _bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors, of the part on this process where they are sharded; each counts once."""
    parts = {x: x.to_local() if isinstance(x, DTensor) else x for x in tensors}
    return sum(x.numel() * x.element_size() for x in parts.values())
