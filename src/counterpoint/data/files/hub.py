"""Data sets of the Hugging Face hub, asked for by id. Nothing else in the library contacts a hub for data."""

from __future__ import annotations

import os
import re
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from counterpoint.errors import DataError

if TYPE_CHECKING:
    import datasets

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(:[\w.-]+)?")
"""``owner/name`` or ``owner/name:configuration``."""
PATIENCE = 3.0  # seconds until a network counts as unreachable


def load(source: str, *, split: str | None, streaming: bool) -> datasets.Dataset | datasets.IterableDataset:
    """A data set of the hub, ``train`` unless a split is named. `DataError` at once when there is no network.

    source: its id. split: its name. streaming: read as it is used, not downloaded first.
    """
    offline = any(os.environ.get(n, "").upper() in ("1", "ON", "YES", "TRUE") for n in _OFFLINE)
    if not offline and (problem := unreachable()):
        raise DataError(
            f"There is no file or folder {source!r}, and as a hub id it cannot be fetched: {problem}. "
            "Give a local path, connect to the network, or set HF_HUB_OFFLINE=1 if it was fetched before."
        )
    import datasets

    name, _, configuration = source.partition(":")
    try:
        return datasets.load_dataset(name, configuration or None, split=split or "train", streaming=streaming)
    except Exception as error:  # the hub's client has a dozen exception types and changes them between versions
        first = str(error).strip().splitlines()[0][:300] if str(error) else type(error).__name__
        setting = " HF_HUB_OFFLINE is set: unset it, or give a local path." if offline else ""
        raise DataError(
            f"There is no file or folder {source!r}, and as a hub id it cannot be loaded: {first}.{setting}"
        ) from error


_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


def unreachable() -> str | None:
    """Why the hub (or the proxy before it) cannot be reached, within `PATIENCE` seconds; None when it can."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    target = urlsplit(proxy or endpoint)
    host, port = target.hostname or "huggingface.co", target.port or (443 if target.scheme == "https" else 80)
    try:
        socket.create_connection((host, port), timeout=PATIENCE).close()
    except OSError as error:
        return f"{host} does not answer ({error})"
    return None
