"""How a method is spread over processes for training: whole on each (DDP), or in shards (FSDP2); or on one, as it is.

The three answer alike, so the loop knows nothing of processes. Every process computes the loss of the whole batch from
its own rows, and gradients are averaged; see `counterpoint.processes`.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import get_total_norm

from counterpoint.data.batch import Batch
from counterpoint.errors import DataError
from counterpoint.processes import total
from counterpoint.train import batchnorm
from counterpoint.train.average import Average
from counterpoint.train.budget import Budget
from counterpoint.train.config import TrainConfig


class Step(nn.Module):
    """A method's losses as a forward pass, which is where DDP and FSDP put their hooks."""

    def __init__(self, method: nn.Module) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch by name, as the method has them."""
        if isinstance(self.method.micro_batch, Budget):
            self.method.micro_batch.begin(batch)
        return self.method.losses(batch)  # type: ignore[no-any-return, operator]


class Whole:
    """A method on one process.

    method: what is trained. weights: its trained parameters by name, as far as this process holds them: what the
    optimiser, the average and the gradient's norm are computed on.
    """

    def __init__(self, method: nn.Module) -> None:
        self.method: Any = method
        self.step: nn.Module = Step(method)
        self.weights: dict[str, Tensor] = {n: p for n, p in method.named_parameters() if p.requires_grad}

    # --- a step ----------------------------------------------------------------------------------------------------

    def backward(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Leave the gradient of the mean loss over the batches in the weights' ``.grad``; returns the loss parts."""
        self.clear()
        found: dict[str, Tensor] = {}
        for k, batch in enumerate(batches, 1):
            with self.exchanging(last=k == len(batches)):
                parts = {name: part / len(batches) for name, part in self.step(batch).items()}
                torch.stack(list(parts.values())).sum().backward()
            for name, part in parts.items():
                found[name] = found[name] + part.detach() if name in found else part.detach()
        self.collect()
        return found

    def clear(self) -> None:
        """Forget all gradients."""
        for weight in self.weights.values():
            weight.grad = None

    @contextmanager
    def exchanging(self, *, last: bool) -> Iterator[None]:
        """Around a forward and a backward pass. Gradients are averaged over the processes in the last one of a step."""
        yield

    def collect(self) -> None:
        """After the last backward pass of a step."""

    def norms(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """The norm of each tensor, shaped like weights, over all processes: ``()`` each.

        tensors: this process's parts.
        """
        return [x.norm() for x in tensors]

    def norm(self, tensors: Sequence[Tensor]) -> Tensor:
        """The norm of all of them together, ``()``.

        tensors: this process's parts.
        """
        return get_total_norm(tensors)

    def before_round(self, number: int) -> None:
        """As the method's, of the round of this number."""
        self.method.before_round(number)

    def after_step(self, step: int) -> None:
        """As the method's, after a step."""
        self.method.after_step(step)

    # --- between steps ---------------------------------------------------------------------------------------------

    @contextmanager
    def shown(self, average: Average | None) -> Iterator[Any]:
        """The method to evaluate, with whole weights: the averaged ones, where there is an average."""
        with average.applied() if average else contextlib.nullcontext():
            yield self.method

    def settle(self, average: Average | None, best: Mapping[str, Tensor] | None = None) -> None:
        """From now on the method that the trainer was given holds the best weights, else the average, else its own."""
        if best is not None:
            self.method.load_state_dict(best, strict=False)
        elif average:
            average.copy_to_weights()

    def state(self) -> dict[str, Any]:
        """The method's ``state_dict`` with whole tensors; complete on the leader, and called by all."""
        return self.method.state_dict()  # type: ignore[no-any-return]

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over a state, the ``state_dict`` of the whole method."""
        self.method.load_state_dict(state)

    def whole(self, name: str, x: Tensor) -> Tensor:
        """A tensor that belongs to the weight ``name`` (a moment, an average), from the parts of all processes.

        x: this process's part.
        """
        return x

    def part(self, name: str, x: Tensor) -> Tensor:
        """The inverse of `whole`: what this process holds of it.

        name: of the weight. x: the whole tensor.
        """
        return x


class Replicated(Whole):
    """A method on every process; torch's DDP averages the gradients while they are computed."""

    def __init__(self, method: nn.Module) -> None:
        super().__init__(method)
        # Which parameters a step uses is known to the method alone (a batch without images, a head trained later), and
        # one waited for in vain would end the run: so DDP looks each time. It warns where it has looked for nothing.
        self.step.never_used = nn.Parameter(next(iter(self.weights.values())).new_zeros(1))
        with warnings.catch_warnings():
            # Newer versions of torch have another word for the next setting, older ones do not know it.
            warnings.simplefilter("ignore", FutureWarning)
            self.step = DistributedDataParallel(
                self.step,
                # They are equal as it is: memories take in the rows of all processes; running statistics: see below.
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
                find_unused_parameters=True,
            )
        self._norms = batchnorm.layers(method)

    @contextmanager
    def exchanging(self, *, last: bool) -> Iterator[None]:
        assert isinstance(self.step, DistributedDataParallel)
        with contextlib.nullcontext() if last else self.step.no_sync():
            yield

    def after_step(self, step: int) -> None:
        """The method's, after the statistics of its batch normalisations were averaged; of a step."""
        batchnorm.average(self._norms)
        super().after_step(step)


class Sharded(Whole):
    """A twin of the method, each process holding a part of its weights and of all that is as large (torch's FSDP2).

    The method itself stays whole, on the CPU, and gets the weights where they are evaluated and at the end. Blocks are
    sharded one by one: the elements of every ``nn.ModuleList``. Scalars stay whole on every process, as do frozen
    parameters outside the blocks, which methods may set themselves. `weights` are the shards as plain tensors.

    device: of this process's parts.
    """

    def __init__(self, method: nn.Module, device: torch.device) -> None:
        self._given, self._device = method, device
        twin = copy.deepcopy(method)
        method.cpu()
        super().__init__(twin)
        mesh = init_device_mesh(device.type, (dist.get_world_size(),))
        shards = {p for block in blocks(twin) for p in block.parameters() if p.dim()}
        kept = {p for p in twin.parameters() if p.dim() == 0 or not (p.requires_grad or p in shards)}
        for module in (*blocks(twin), self.step):
            fully_shard(module, mesh=mesh, ignored_params=kept)
        self._parameters = dict(twin.named_parameters())
        self.weights = {n: _own(p.detach()) for n, p in self._parameters.items() if p.requires_grad}
        self._scalars = [p for p in self._parameters.values() if p.dim() == 0 and p.requires_grad]
        self._norms = batchnorm.layers(twin)

    def backward(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        if not all(map(len, batches)):
            raise DataError(
                f"Process {dist.get_rank()} has no row of this batch. With parallel=fsdp the processes compute every "
                "layer together, so each needs a row: use larger batches, fewer processes, or parallel=ddp."
            )
        return super().backward(batches)

    def clear(self) -> None:
        """Forget all gradients, of shards and of what they are shards of."""
        for name, weight in self.weights.items():
            self._parameters[name].grad = weight.grad = None

    @contextmanager
    def exchanging(self, *, last: bool) -> Iterator[None]:
        assert isinstance(self.step, FSDPModule)
        self.step.set_requires_gradient_sync(last)
        yield

    def collect(self) -> None:
        if self._scalars:
            used = torch.stack([p.new_tensor(float(p.grad is not None)) for p in self._scalars])
            grads = torch.stack([p.new_zeros(()) if p.grad is None else p.grad for p in self._scalars])
            for p, grad, times in zip(self._scalars, *(total(x) for x in (grads, used))):
                p.grad = grad / dist.get_world_size() if times else None
        for name, weight in self.weights.items():
            grad = self._parameters[name].grad
            weight.grad = None if grad is None else _own(grad)

    def norms(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        # A scalar is the same everywhere: it counts on one process only.
        own = [x.norm() if x.dim() or dist.get_rank() == 0 else x.new_zeros(()) for x in tensors]
        return list(total(torch.stack(own).square()).sqrt())

    def norm(self, tensors: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(self.norms(tensors))).norm()

    def after_step(self, step: int) -> None:
        """The method's, after the statistics of its batch normalisations were averaged; of a step."""
        batchnorm.average(self._norms)
        super().after_step(step)

    # --- between steps ---------------------------------------------------------------------------------------------

    @contextmanager
    def shown(self, average: Average | None) -> Iterator[Any]:
        self._unite(average, everywhere=False)
        if dist.get_rank() == 0:  # the one that evaluates
            self._given.to(self._device)
        try:
            yield self._given
        finally:
            self._given.cpu()

    def settle(self, average: Average | None, best: Mapping[str, Tensor] | None = None) -> None:
        if best is None:
            self._unite(average, everywhere=True)
        else:
            self._given.load_state_dict(best, strict=False)
        self._given.to(self._device)

    @torch.no_grad()
    def _unite(self, average: Average | None, *, everywhere: bool) -> None:
        averaged = average.state_dict() if average else {}
        held = self.method.state_dict()
        others = {n: x for n, x in held.items() if not isinstance(x, Tensor)}
        for name, place in self._given.state_dict().items():
            if isinstance(place, Tensor):
                x = self.whole(name, averaged[name]) if name in averaged else _full(held[name])
                if not (everywhere or dist.get_rank() == 0):
                    continue
                if x.shape == place.shape:
                    place.copy_(x)
                else:
                    others[name] = x  # of a memory that grows
        self._given.load_state_dict(others, strict=False)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, x in self.method.state_dict().items():
            value = _full(x) if isinstance(x, Tensor) else x
            if dist.get_rank() == 0:
                found[name] = value
        return found

    @torch.no_grad()
    def load(self, state: Mapping[str, Any]) -> None:
        """Take over a state, the ``state_dict`` of the whole method, each process its part of it."""
        self._given.load_state_dict(state)  # which says what does not fit
        others = {n: x for n, x in state.items() if not isinstance(x, Tensor)}
        for name, held in self.method.state_dict().items():
            if isinstance(held, Tensor) and held.shape == state[name].shape:
                _own(held).copy_(_like(held, state[name]))
            elif isinstance(held, Tensor):
                others[name] = state[name]
        self.method.load_state_dict(others, strict=False)

    def whole(self, name: str, x: Tensor) -> Tensor:
        p = self._parameters[name]
        if not isinstance(p, DTensor) or x.shape != self.weights[name].shape:
            return x
        mine = DTensor.from_local(x, p.device_mesh, p.placements, shape=p.shape, stride=p.stride(), run_check=False)
        return _full(mine)

    def part(self, name: str, x: Tensor) -> Tensor:
        p = self._parameters[name]
        return _like(p, x) if x.shape == p.shape else x


def blocks(module: nn.Module) -> list[nn.Module]:
    """The elements of module lists that compute and have parameters; inner ones before those around them."""
    lists = [m for m in module.modules() if isinstance(m, nn.ModuleList) and len(m) > 1]
    found = {id(b): b for m in lists for b in m if not isinstance(b, nn.ModuleList | nn.ModuleDict)}
    inward = [m for m in module.modules() if id(m) in found and any(p.dim() for p in m.parameters())]
    return inward[::-1]


def _own(x: Tensor) -> Tensor:
    return x.to_local() if isinstance(x, DTensor) else x


def _full(x: Tensor) -> Tensor:
    return (x.full_tensor() if isinstance(x, DTensor) else x).cpu()


def _like(held: Tensor, x: Tensor) -> Tensor:
    """What this process holds of ``x``, when it is spread like ``held``."""
    if not isinstance(held, DTensor):
        return x
    return distribute_tensor(x.to(held.device), held.device_mesh, held.placements, src_data_rank=None).to_local()


@contextmanager
def spread(method: nn.Module, config: TrainConfig, device: torch.device) -> Iterator[Whole]:
    """The method as these settings spread it over the processes of the group, which all call this.

    config: of the training. device: of this process.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        yield Whole(method)
        return
    for x in method.state_dict().values():
        if isinstance(x, Tensor):  # whatever the processes did before: they start alike
            dist.broadcast(x.data, 0)
    found = Sharded(method, device) if config.parallel == "fsdp" else Replicated(method)
    together = batchnorm.synced(found.method) if config.sync_batchnorm else contextlib.nullcontext()
    if batchnorm.layers(method) and not config.sync_batchnorm and dist.get_rank() == 0:
        warnings.warn(
            "Batch normalisation uses the statistics of each process's own rows. For those of the whole batch, as on "
            "one process, set sync_batchnorm=True (--sync-batchnorm True).",
            stacklevel=2,
        )
    with together:
        try:
            yield found
        finally:
            found.step = Step(found.method)  # lets go of the hooks that DDP has put on the method's parameters
