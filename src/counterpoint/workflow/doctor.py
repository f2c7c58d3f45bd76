"""`doctor`: what is installed, what the machine has, what is missing and how to get it."""

from __future__ import annotations

import importlib.metadata
import os
import platform

import torch

from counterpoint._version import __version__
from counterpoint.modalities.base import discover

EXTRAS: dict[str, tuple[str, ...]] = {
    "search": ("bm25s", "usearch"),
    "report": ("plotly", "openTSNE"),
    "logs": ("tensorboard",),
    "export": ("onnx", "onnxscript", "onnxruntime", "sentence-transformers"),
    "ray": ("ray",),
    "docs": ("mkdocs-material", "mkdocstrings"),
}
CORE = (
    "torch",
    "numpy",
    "transformers",
    "tokenizers",
    "datasets",
    "pyarrow",
    "safetensors",
    "scikit-learn",
    "tyro",
    "rich",
)


def version(package: str) -> str | None:
    """Of a package that is installed; None: it is not."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def doctor() -> list[tuple[str, str, str]]:
    """What is asked for, how it stands, and what to type where it could be better (else ''): packages, devices,
    threads, the folder of data sets. The function behind ``counterpoint doctor``.

    >>> [stands for what, stands, todo in doctor() if what == "counterpoint"]
    ['0.1.0']
    """
    rows = [
        ("counterpoint", __version__, ""),
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}", ""),
    ]
    modalities = {m.name: m.needs for m in discover().values() if m.needs}  # an extra is called like its modality
    rows += [(p, version(p) or "missing", "" if version(p) else f"pip install {p}") for p in CORE]
    for extra, packages in {**modalities, **EXTRAS}.items():
        for p in packages:
            rows.append((p, version(p) or "missing", "" if version(p) else f"pip install 'counterpoint[{extra}]'"))
    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
        rows.append(("gpu", f"{torch.cuda.device_count()} x {', '.join(sorted(names))}", ""))
    elif torch.backends.mps.is_available():
        rows.append(("gpu", "Apple (mps)", ""))
    else:
        rows.append(("gpu", "none: training runs on the CPU", ""))
    threads, cores = torch.get_num_threads(), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    rows.append(("threads", f"{threads} of {cores} cores", "" if threads >= cores else "unset OMP_NUM_THREADS"))
    fast = any(flag in torch.__config__.show() + cpu_flags() for flag in ("avx512_bf16", "amx_bf16"))
    rows.append(("bfloat16 on the CPU", "yes: --precision bfloat16 is faster" if fast else "no fast units", ""))
    data = os.environ.get("COUNTERPOINT_DATA", "")
    stands = data if data and os.path.isdir(data) else (f"{data}: no such folder" if data else "not set")
    rows.append(
        ("COUNTERPOINT_DATA", stands, "" if os.path.isdir(data) else "a folder of data sets: counterpoint data")
    )
    return rows


def cpu_flags() -> str:
    """What the processor can do, where Linux tells."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next((line for line in lines if line.startswith("flags")), "")
    except OSError:
        return ""
