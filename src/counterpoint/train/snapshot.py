"""A run's whole state as tensors and JSON, and back: weights, optimiser, average, random generators. No pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from counterpoint.errors import ModelError
from counterpoint.train.average import Average
from counterpoint.train.checkpoint import Checkpoint

Groups = dict[str, dict[str, Tensor]]


def capture(
    module: nn.Module, optimizer: Optimizer, average: Average | None, device: torch.device
) -> tuple[Groups, dict[str, Any]]:
    """Everything the next step depends on: groups of tensors for the files, and what is no tensor for the JSON."""
    weights, extra = split(module.state_dict())
    moments, rest = flatten(optimizer.state_dict())
    groups = {"model": weights, "optimizer": moments, "rng": rng_state(device)}
    if average:
        groups["average"] = average.state_dict()
    return groups, {"model": extra, "optimizer": rest}


def restore(
    saved: Checkpoint, module: nn.Module, optimizer: Optimizer, average: Average | None, device: torch.device
) -> None:
    """The inverse of `capture`. Learning rates and other settings stay those of this run's optimiser."""
    try:
        module.load_state_dict({**saved.groups["model"], **saved.state["model"]})
        optimizer.load_state_dict(
            unflatten(saved.groups["optimizer"], saved.state["optimizer"], optimizer.state_dict()["param_groups"])
        )
        if average and "average" in saved.groups:
            average.load_state_dict(saved.groups["average"])
        set_rng_state(saved.groups["rng"], device)
    except (RuntimeError, KeyError, ValueError) as error:
        raise ModelError(
            f"The checkpoint {saved.path} is of another model or optimiser than this run's: {error} Resume with the "
            "settings of the run, which are in its config.json, or start again with --overwrite."
        ) from error


def split(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A module's ``state_dict`` as its tensors and its extra state, which has to be JSON."""
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    return tensors, {name: value for name, value in state.items() if name not in tensors}


def flatten(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's ``state_dict`` as tensors ``INDEX.NAME``, the rest of it, and the parameters of its groups."""
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {}
    for index, values in state["state"].items():
        for name, value in values.items():
            (tensors if isinstance(value, Tensor) else rest)[f"{index}.{name}"] = value
    return tensors, {"values": rest, "groups": [group["params"] for group in state["param_groups"]]}


def unflatten(tensors: Mapping[str, Tensor], rest: Mapping[str, Any], groups: list[dict[str, Any]]) -> dict[str, Any]:
    """The inverse of `flatten`, with the settings in ``groups``; `ValueError` where they hold other parameters."""
    if rest["groups"] != [group["params"] for group in groups]:
        raise ValueError("its optimiser has other groups of parameters.")
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **rest["values"]}.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    return {"state": state, "param_groups": groups}


def rng_state(device: torch.device) -> dict[str, Tensor]:
    """States of the random generators that training draws from, the CPU's and the device's, as uint8 tensors."""
    states = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states[device.type] = torch.get_device_module(device).get_rng_state()
    return states


def set_rng_state(states: Mapping[str, Tensor], device: torch.device) -> None:
    """The inverse of `rng_state`. A run resumed on another kind of device keeps that device's seeded state."""
    torch.set_rng_state(states["cpu"])
    if device.type in states and device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[device.type])
