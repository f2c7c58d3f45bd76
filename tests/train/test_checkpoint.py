from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from counterpoint.errors import ModelError
from counterpoint.train import checkpoint
from counterpoint.train.checkpoint import load, newest, numbered, remove, save
from counterpoint.train.snapshot import flatten, rng_states, set_rng_state, unflatten
from counterpoint.train.team import Team

GROUPS = {"model": {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}, "none": {}}


def test_round_trip_and_no_trace_of_the_writing(tmp_path: Path) -> None:
    save(tmp_path / "step-1", GROUPS, {"step": 1, "best": None})
    back = load(tmp_path / "step-1")
    assert back.state == {"step": 1, "best": None}
    assert back.groups["none"] == {}
    assert all(torch.equal(back.groups["model"][k], v) for k, v in GROUPS["model"].items())
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]
    assert not [p for p in (tmp_path / "step-1").iterdir() if p.suffix in {".pt", ".pkl", ".bin"}]


def test_sums_are_those_of_sha256sum(tmp_path: Path) -> None:
    save(tmp_path / "step-1", GROUPS, {})
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path / "step-1", check=True)


def test_tied_and_non_contiguous_tensors(tmp_path: Path) -> None:
    w = torch.arange(6.0).reshape(2, 3)
    save(tmp_path / "a", {"model": {"w": w, "tied": w, "turned": w.T, "part": w[1:]}}, {})
    back = load(tmp_path / "a").groups["model"]
    assert torch.equal(back["tied"], w)
    assert torch.equal(back["turned"], w.T)
    assert torch.equal(back["part"], w[1:])


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "SHA256SUMS"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damage_is_found_and_the_one_before_is_taken(tmp_path: Path, name: str, damage: str) -> None:
    for step in (9, 10):
        save(tmp_path / f"step-{step}", GROUPS, {"step": step})
    file = tmp_path / "step-10" / name
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    elif damage == "cut":
        file.write_bytes(data[: len(data) // 2])
    else:
        file.unlink()
    with pytest.raises(ModelError, match="damaged"):
        load(tmp_path / "step-10")
    with pytest.warns(UserWarning, match="Going back"):
        found = newest(tmp_path)
    assert found is not None
    assert found.state["step"] == 9


def test_all_damaged_is_an_error_and_none_at_all_is_none(tmp_path: Path) -> None:
    assert newest(tmp_path) is None
    save(tmp_path / "step-1", GROUPS, {})
    (tmp_path / "step-1" / "state.json").unlink()
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(ModelError, match="--overwrite"):
        newest(tmp_path)


@pytest.mark.parametrize("call", ["save_file", "_digest", "_sync"])
def test_full_disk_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    save(tmp_path / "step-1", GROUPS, {"step": 1})

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, call, full)
    for path in (tmp_path / "step-1", tmp_path / "step-2"):
        with pytest.raises(ModelError, match=r"the disk is full; it needs .* Free some space"):
            save(path, GROUPS, {"step": 2})
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]
    assert load(tmp_path / "step-1").state == {"step": 1}


def test_full_disk_for_real(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True)
    if mount.returncode:
        pytest.skip("mounting a small disk needs privileges")
    try:
        save(disk / "step-1", GROUPS, {"step": 1})
        with pytest.raises(ModelError, match=r"the disk is full; it needs 0\.4 MB"):
            save(disk / "step-2", {"model": {"w": torch.zeros(100_000)}}, {"step": 2})
        assert [p.name for p in disk.iterdir()] == ["step-1"]
        found = newest(disk)
        assert found is not None
        assert found.state == {"step": 1}
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_everything_is_synced_before_the_name_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, rename = checkpoint._sync, Path.rename
    monkeypatch.setattr(checkpoint, "_sync", lambda path: (order.append(path.name.split(".step-1.")[0]), sync(path)))
    monkeypatch.setattr(Path, "rename", lambda path, to: (order.append("rename"), rename(path, to)))
    save(tmp_path / "step-1", GROUPS, {})
    files = {"model.safetensors", "none.safetensors", "state.json", "SHA256SUMS", ""}  # "": the folder
    at = order.index("rename")
    assert set(order[:at]) == files
    assert order[at + 1 :] == [tmp_path.name]


def test_numbers_sort_as_numbers_and_strangers_stay(tmp_path: Path) -> None:
    for name in ("step-10", "step-9", "step-x", ".step-3.writing", "best-1"):
        (tmp_path / name).mkdir()
    assert [p.name for p in numbered(tmp_path, "step")] == ["step-9", "step-10"]
    remove(numbered(tmp_path, "step"))
    assert sorted(os.listdir(tmp_path)) == [".step-3.writing", "best-1", "step-x"]


@pytest.mark.parametrize(
    "build",
    [
        lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
        lambda p: torch.optim.SGD(p, lr=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    ],
)
def test_optimizer_goes_through_tensors_and_json(tmp_path: Path, build: Any) -> None:
    def steps(net: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            net(torch.ones(2, 3)).square().sum().backward()
            optimizer.step()

    nets = [nn.Linear(3, 2) for _ in range(2)]
    first, second = (build(net.parameters()) for net in nets)
    steps(nets[0], first, 3)
    moments, rest = flatten(first.state_dict())
    save(tmp_path / "c", {"optimizer": moments}, {"optimizer": rest})
    back = load(tmp_path / "c")
    nets[1].load_state_dict(nets[0].state_dict())
    groups = second.state_dict()["param_groups"]
    second.load_state_dict(unflatten(back.groups["optimizer"], back.state["optimizer"], groups))
    for net, optimizer in zip(nets, (first, second)):
        steps(net, optimizer, 3)
    assert torch.equal(nets[0].weight, nets[1].weight)


def test_optimizer_of_other_groups_is_refused() -> None:
    net = nn.Linear(3, 2)
    moments, rest = flatten(torch.optim.SGD(net.parameters(), lr=0.1).state_dict())
    other = torch.optim.SGD([{"params": [net.weight]}, {"params": [net.bias]}], lr=0.1)
    with pytest.raises(ValueError, match="other groups"):
        unflatten(moments, rest, other.state_dict()["param_groups"])


def test_random_state_round_trip(tmp_path: Path) -> None:
    device = torch.device("cpu")
    save(tmp_path / "c", {"rng": rng_states(device, Team())}, {})
    expected = torch.randn(3)
    torch.manual_seed(99)
    set_rng_state(load(tmp_path / "c").groups["rng"], device, 0)
    assert torch.equal(torch.randn(3), expected)
