"""Hub ids: asked for only where the source is no path, and refused at once without a network."""

from __future__ import annotations

import socket
import time
from typing import Any

import datasets
import pytest

from counterpoint.data.files import hub
from counterpoint.data.files.read import read
from counterpoint.errors import DataError

ID = "counterpoint-tests/there-is-no-such-set"


def no_network(*_: Any, **__: Any) -> Any:
    raise OSError("Network is unreachable")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HTTPS_PROXY", "https_proxy", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_network_it_says_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: pytest.fail("the hub was contacted"))
    start = time.perf_counter()
    with pytest.raises(DataError, match=r"no file or folder.*cannot be fetched.*unreachable.*HF_HUB_OFFLINE=1"):
        read(ID)
    assert time.perf_counter() - start < 5


def test_offline_it_asks_the_cache_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket, "create_connection", no_network)
    start = time.perf_counter()
    with pytest.raises(DataError, match="HF_HUB_OFFLINE is set"):
        read(ID)
    assert time.perf_counter() - start < 20


def test_the_hubs_own_error_becomes_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError("404 Client Error\nmany more lines")

    monkeypatch.setattr(hub, "unreachable", lambda: None)
    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=r"cannot be loaded: 404 Client Error\.$"):
        read(ID)


def test_configuration_and_split_reach_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(*args: Any, **kwargs: Any) -> datasets.Dataset:
        asked.append((args, kwargs))
        return datasets.Dataset.from_dict({"text": ["a"]})

    monkeypatch.setattr(hub, "unreachable", lambda: None)
    monkeypatch.setattr(datasets, "load_dataset", load)
    read(f"{ID}:german", split="test", streaming=True)
    read(ID)
    assert asked == [
        ((ID, "german"), {"split": "test", "streaming": True}),
        ((ID, None), {"split": "train", "streaming": False}),
    ]


def test_a_proxy_stands_for_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Any] = []

    def connect(address: Any, timeout: float) -> Any:
        tried.append(address)
        raise OSError("refused")

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert "proxy.example" in str(hub.unreachable())
    assert tried == [("proxy.example", 3128)]
