"""Where the time of one tile goes: every operation of the tiled back end on a 1024 x 1024 tile, alone.

    python bench/tile.py                     # and bench/results/tile.json

InfoNCE in both directions, forward and backward, D = 256. Each operation is timed by itself (the fastest of many
calls); what the whole loss takes per tile beyond their sum is Python, allocation and what is done once per row.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch.nn.functional import normalize

from _table import Result, finish
from counterpoint.objectives.contrast import contrast

SIDE, DIM, TILES = 1024, 256, 4


def timed(f: Callable[[], object], clock: Callable[[], float], repeats: int) -> float:
    """Milliseconds of the fastest call."""
    f()
    best = float("inf")
    for _ in range(repeats):
        start = clock()
        f()
        best = min(best, clock() - start)
    return best * 1e3


def operations(half: bool) -> dict[str, Callable[[], object]]:
    """What one tile costs, forward then backward, by name."""
    dtype = torch.bfloat16 if half else torch.float32
    q, k = (torch.randn(SIDE, DIM).to(dtype) for _ in range(2))
    s, out, ones = torch.randn(SIDE, SIDE), torch.empty(SIDE, SIDE), torch.ones(SIDE)
    u, v, grad, low = torch.randn(SIDE), torch.randn(SIDE), torch.zeros(SIDE, DIM), torch.empty(SIDE, SIDE, dtype=dtype)
    found: dict[str, Callable[[], object]] = {
        "forward: scores (product)": lambda: torch.mm(q, k.T, out=low),
        "forward: exponential": lambda: torch.exp(s, out=out),
        "forward: sums of rows and of columns": lambda: (out @ ones, ones @ out),
        "backward: scores again (product)": lambda: torch.mm(q, k.T, out=low),
        "backward: exponential": lambda: torch.exp(s, out=out),
        "backward: times u_i + v_j": lambda: out.mul_(torch.add(u[:, None], v[None, :], out=s)).clamp_(-1, 1),
        "backward: gradients of both factors (2 products)": lambda: (low @ k, low.T @ q),
        "backward: added up": lambda: (grad.add_(grad, alpha=0), grad.add_(grad, alpha=0)),
    }
    if half:
        found["rounding: scores twice, gradient once"] = lambda: (out.copy_(low), out.copy_(low), low.copy_(out))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu-time", action="store_true", help="count milliseconds of the processor")
    parser.add_argument("--repeats", type=int, default=30)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    clock, unit = (time.process_time, "CPU ms") if args.cpu_time else (time.perf_counter, "ms")
    results = []
    for name, half in (("float32", False), ("bfloat16 products", True)):
        total = 0.0
        for what, f in operations(half).items():
            took = timed(f, clock, args.repeats)
            total += took
            results.append(Result(case=name, metric=what, unit=unit, ours=took))
        q, k = (normalize(torch.randn(TILES * SIDE, DIM), dim=1).requires_grad_() for _ in range(2))
        precision = "bfloat16" if half else "full"

        def loss() -> None:
            found = contrast(q, k, scale=20.0, both=True, backend="tiled", tile=SIDE, precision=precision)  # noqa: B023
            torch.autograd.grad(found, (q, k))  # noqa: B023

        results.append(Result(case=name, metric="all of these", unit=unit, ours=total))
        whole = timed(loss, clock, 5) / TILES**2
        results.append(Result(case=name, metric="the loss, per tile", unit=unit, ours=whole))
    finish("tile", results, threads=args.threads)


if __name__ == "__main__":
    main()
