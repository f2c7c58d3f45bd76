"""A run's whole state as tensors and JSON, and back: weights, optimiser, average, random generators. No pickle.

The state is the same however many processes the run has and however they share the weights: tensors are whole. Only the
random generators are those of each process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from counterpoint.errors import ModelError
from counterpoint.train.average import Average
from counterpoint.train.checkpoint import Checkpoint
from counterpoint.train.parallel import Whole
from counterpoint.train.team import Team

Groups = dict[str, dict[str, Tensor]]


def capture(
    learner: Whole, optimizer: Optimizer, average: Average | None, device: torch.device, team: Team
) -> tuple[Groups, dict[str, Any]]:
    """Everything the next step depends on: groups of tensors for the files, and what is no tensor for the JSON.

    All processes take part; what the leader gets is complete.

    learner: the method as it is trained. optimizer, average: whose state counts too. device: of this process. team: of
    processes.
    """
    weights, extra = split(learner.state())
    moments, rest = flatten(optimizer.state_dict())
    names = _names(learner, optimizer)
    groups = {
        "model": weights,
        "optimizer": {key: learner.whole(names[_index(key)], x) for key, x in moments.items()},
        "rng": rng_states(device, team),
    }
    if average:
        groups["average"] = {name: learner.whole(name, x) for name, x in average.state_dict().items()}
    return groups, {"model": extra, "optimizer": rest}


def restore(
    saved: Checkpoint,
    learner: Whole,
    optimizer: Optimizer,
    average: Average | None,
    device: torch.device,
    team: Team,
) -> None:
    """The inverse of `capture`. Learning rates and other settings stay those of this run's optimiser.

    saved: the checkpoint. The rest as of `capture`: learner, optimizer, average, device, team.
    """
    try:
        learner.load({**saved.groups["model"], **saved.state["model"]})
        names, rest = _names(learner, optimizer), saved.state["optimizer"]
        moments = {key: learner.part(names[_index(key)], x) for key, x in saved.groups["optimizer"].items()}
        optimizer.load_state_dict(unflatten(moments, rest, optimizer.state_dict()["param_groups"]))
        if average and "average" in saved.groups:
            average.load_state_dict({name: learner.part(name, x) for name, x in saved.groups["average"].items()})
        set_rng_state(saved.groups["rng"], device, team.rank)
    except (RuntimeError, LookupError, ValueError) as error:
        raise ModelError(
            f"The checkpoint {saved.path} is of another model or optimiser than this run's: {error} Resume with the "
            "settings of the run, which are in its config.json, or start again with --overwrite."
        ) from error


def split(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A module's ``state_dict`` as its tensors and its extra state, which has to be JSON."""
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    return tensors, {name: value for name, value in state.items() if name not in tensors}


def flatten(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's ``state_dict`` as tensors ``INDEX.NAME``, the rest of it, and the parameters of its groups.

    state: of `torch.optim.Optimizer.state_dict`.
    """
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {}
    for index, values in state["state"].items():
        for name, value in values.items():
            (tensors if isinstance(value, Tensor) else rest)[f"{index}.{name}"] = value
    return tensors, {"values": rest, "groups": [group["params"] for group in state["param_groups"]]}


def unflatten(tensors: Mapping[str, Tensor], rest: Mapping[str, Any], groups: list[dict[str, Any]]) -> dict[str, Any]:
    """The inverse of `flatten`, with the settings in ``groups``; `ValueError` where they hold other parameters.

    tensors, rest: as `flatten` gave them.
    """
    if rest["groups"] != [group["params"] for group in groups]:
        raise ValueError("its optimiser has other groups of parameters.")
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **rest["values"]}.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    return {"state": state, "param_groups": groups}


def _names(learner: Whole, optimizer: Optimizer) -> list[str]:
    """The weights' names, in the order in which the optimiser counts them."""
    names = {id(weight): name for name, weight in learner.weights.items()}
    return [names[id(p)] for group in optimizer.param_groups for p in group["params"]]


def _index(key: str) -> int:
    return int(key.partition(".")[0])


def rng_states(device: torch.device, team: Team) -> dict[str, Tensor]:
    """States of the random generators that training draws from, the CPU's and the device's, as uint8 tensors.

    Those of process r > 0 have the ending ``.r``.

    device: of this process. team: of processes.
    """
    states = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states[device.type] = torch.get_device_module(device).get_rng_state()
    found = {name: team.collected(state) for name, state in states.items()}
    return {f"{name}.{r}" if r else name: x for name, all_of_it in found.items() for r, x in enumerate(all_of_it)}


def set_rng_state(states: Mapping[str, Tensor], device: torch.device, rank: int) -> None:
    """The inverse of `rng_states`. What the checkpoint does not have, another kind of device or a process more than
    there were, keeps its seeded state.

    states: as `rng_states` gave them. device: of this process. rank: its number.
    """
    ending = f".{rank}" if rank else ""
    if f"cpu{ending}" in states:
        torch.set_rng_state(states[f"cpu{ending}"])
    if device.type != "cpu" and f"{device.type}{ending}" in states:
        torch.get_device_module(device).set_rng_state(states[f"{device.type}{ending}"])
