"""Time and memory of the engine beside the dense form and the nearest peers, forward and backward, float32.

    python bench/contrast.py                                # the table, and bench/results/contrast.json
    python bench/contrast.py --device cuda --dim 256 --n 16384 65536 262144 1048576
    python bench/contrast.py --threads 1 --cpu-time         # on a machine that others use too

Every measurement runs in a process of its own: memory is the peak of the process over what it held before the first
call (so it contains the gradients of the embeddings), time is the best of several calls, and the matrix rate is that
of the four products of a tile alone (scores twice, gradient of both factors; in bfloat16 where the case is), measured
before and after. The dense form and the peers are measured up to the N of --beside: beyond it they do not fit.
Dense means `kernels/reference.py`: the same formula on the whole matrix of pairs, by torch's own operations.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from _table import Result, finish, show
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Diagonal, FalseNegatives, Labels, TeacherSimilarity

Loss = Callable[..., Tensor]
DIM = int(sys.argv[sys.argv.index("--dim") + 1]) if "--dim" in sys.argv else 256
TILE = 1024
CPU_TIME = "--cpu-time" in sys.argv
UNITS = {"infonce": 4, "infonce bf16": 4, "supcon": 4, "teacher": 4, "teacher softmax": 6, "sigmoid": 4, "guide": 12}
"""Products of N x N x D per call: one forward and three backward; two more for a teacher's scores that are not linear;
a guide's, and everything twice for as many hard negatives as candidates."""
TITLES = {
    "infonce": "InfoNCE, both directions",
    "infonce bf16": "InfoNCE, both directions, bfloat16 products",
    "supcon": "SupCon, 100 classes",
    "teacher": "soft targets, teacher's cosine / 2 + 1 / 2",
    "teacher softmax": "soft targets, softmax of the teacher's cosine / 0.1",
    "sigmoid": "sigmoid",
    "guide": "guide-masked, N hard negatives",
}
PEERS = {
    "infonce": ("open_clip", "sentence-transformers"),
    "supcon": ("pytorch-metric-learning",),
}


def embeddings(n: int, device: str, *, near: Tensor | None = None) -> Tensor:
    z = torch.randn(n, DIM, device=device)
    return normalize(z if near is None else near + z / 10, dim=1)


def call(case: str, who: str, n: int, device: str) -> tuple[Callable[[], Tensor], list[Tensor]]:
    """The loss as a function of nothing, and the embeddings whose gradients are taken."""
    torch.manual_seed(0)
    q, k, extra = (embeddings(n, device).requires_grad_() for _ in range(3))
    if who == "open_clip":
        return lambda: open_clip(q, k), [q, k]
    if who == "sentence-transformers":
        return cached(q, k), [q, k]
    if who == "pytorch-metric-learning":
        losses = importlib.import_module("pytorch_metric_learning.losses")
        supcon, y = losses.SupConLoss(temperature=0.1), torch.randint(100, (n,), device=device)
        return lambda: supcon(q, y), [q]
    ours = "tiled" if device == "cpu" else "auto"
    how = {"backend": "reference" if who == "dense" else ours}
    if case == "supcon":
        y = torch.randint(100, (n,), device=device)
        return lambda: contrast(q, q, Labels(y, self_pairs=False), scale=10.0, **how), [q]
    if case == "sigmoid":
        bias = torch.tensor(-10.0, device=device)
        return lambda: contrast(q, k, scale=10.0, bias=bias, form="sigmoid", **how), [q, k]
    if case.startswith("infonce"):
        precision = "bfloat16" if "bf16" in case else "full"
        return lambda: contrast(q, k, scale=20.0, both=True, precision=precision, **how), [q, k]
    teacher = embeddings(n, device)
    other = embeddings(n, device, near=teacher)
    if case == "guide":
        pairing = Diagonal() & FalseNegatives(teacher, torch.cat([other, embeddings(n, device)]), margin=0.05)
        return lambda: contrast(q, k, pairing, scale=20.0, extra=extra, **how), [q, k, extra]
    soft = {"temperature": 0.1} if case == "teacher softmax" else {"slope": 0.5, "intercept": 0.5}
    return lambda: contrast(q, k, TeacherSimilarity(teacher, other, **soft), scale=20.0, **how), [q, k]


def open_clip(q: Tensor, k: Tensor) -> Tensor:
    """ClipLoss of OpenCLIP from its public formula: both matrices of logits, a cross entropy of each."""
    image, text = 20.0 * q @ k.T, 20.0 * k @ q.T
    own = torch.arange(len(q), device=q.device)
    return (cross_entropy(image, own) + cross_entropy(text, own)) / 2


def cached(q: Tensor, k: Tensor) -> Callable[[], Tensor]:
    """The loss stage of sentence-transformers' CachedMultipleNegativesRankingLoss, both directions, 256 rows at a time.

    Its rows are back-propagated as they are computed, so what it returns has no graph left.
    """
    losses = importlib.import_module("sentence_transformers.losses")
    loss = losses.CachedMultipleNegativesRankingLoss(
        torch.nn.Sequential(torch.nn.Identity()),
        similarity_fct=lambda a, b: a @ b.T,
        mini_batch_size=256,
        directions=("query_to_doc", "doc_to_query"),
        partition_mode="per_direction",
    )
    return lambda: loss.calculate_loss([[q], [k]], with_backward=True)


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def timed(f: Callable[[], object], repeats: int, device: str) -> float:
    """Seconds of the fastest of several calls, by the wall clock or, where asked, of the processor."""
    clock = time.process_time if CPU_TIME else time.perf_counter
    best = float("inf")
    for _ in range(repeats):
        wait(device)
        start = clock()
        f()
        wait(device)
        best = min(best, clock() - start)
    return best


def matrix_rate(device: str, dtype: torch.dtype = torch.float32) -> float:
    """GFLOP/s of the products a tile needs, alone."""
    side = TILE if device == "cpu" else 8 * TILE
    a, b = (torch.randn(side, DIM, device=device, dtype=dtype) for _ in range(2))
    s = torch.empty(side, side, device=device, dtype=dtype)
    out = torch.empty_like(a)

    def products() -> None:
        torch.mm(a, b.T, out=s)
        torch.mm(a, b.T, out=s)
        torch.mm(s, b, out=out)
        torch.mm(s.T, a, out=out)

    products()
    return 4 * 2 * side * side * DIM / timed(products, 15, device) / 1e9


def peak(device: str) -> float:
    """Most MiB that the process (the GPU) has held so far."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def measure(case: str, who: str, n: int, device: str, repeats: int) -> dict[str, float]:
    """seconds, MiB over the base, matrix rate in GFLOP/s: of one case, in this process."""
    small, _ = call(case, who, 64 if device == "cpu" else 2048, device)  # loads (compiles) the kernels
    loss = small()
    if loss.requires_grad:
        loss.backward()
    dtype = torch.bfloat16 if "bf16" in case else torch.float32
    rate = matrix_rate(device, dtype)
    f, leaves = call(case, who, n, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    base = peak(device)

    def step() -> None:
        for leaf in leaves:
            leaf.grad = None
        loss = f()
        if loss.requires_grad:
            loss.backward()

    seconds = timed(step, repeats, device)
    return {"seconds": seconds, "mib": peak(device) - base, "rate": max(rate, matrix_rate(device, dtype))}


def elsewhere(case: str, who: str, n: int, args: argparse.Namespace) -> dict[str, float] | None:
    """`measure` in a process of its own; None where it fails (a peer is not installed, memory runs out)."""
    command = [sys.executable, __file__, "--one", case, who, str(n), "--device", args.device]
    repeats = args.repeats if n <= 16384 or args.device != "cpu" else 1
    command += ["--repeats", str(repeats), "--threads", str(args.threads), "--dim", str(args.dim)]
    done = subprocess.run(command + ["--cpu-time"] * args.cpu_time, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
        print(f"left out: {case}, {who}, N = {n}: {reason}")
        return None
    return json.loads(done.stdout.splitlines()[-1])


def peer_version(who: str) -> str:
    if who == "dense":
        return torch.__version__
    return "formula" if who == "open_clip" else version(who)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, nargs="+", default=[4096, 8192, 16384, 32768, 65536], help="rows N = M")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--cases", nargs="+", choices=list(UNITS), default=list(UNITS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu-time", action="store_true", help="count seconds of the processor, not of the wall clock")
    parser.add_argument("--beside", type=int, default=8192, help="largest N of the dense form and the peers (0: none)")
    parser.add_argument("--one", nargs=3, metavar=("CASE", "WHO", "N"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.one:
        case, who, n = args.one
        print(json.dumps(measure(case, who, int(n), args.device, args.repeats)))
        return

    results, table = [], []
    seconds: dict[tuple[str, int], float] = {}
    for case in args.cases:
        for n in args.n:
            ours = elsewhere(case, "ours", n, args)
            if ours is None:
                continue
            reached = UNITS[case] * 2 * n * n * DIM / ours["seconds"] / 1e9
            title = f"{TITLES[case]}, N = {n}"
            results += [
                Result(case=title, metric="matrix rate", unit="GFLOP/s", ours=reached, higher_is_better=True),
                Result(case=title, metric="measured rate of products alone", unit="GFLOP/s", ours=ours["rate"]),
                Result(
                    case=title,
                    metric="share of measured rate",
                    unit="1",
                    ours=reached / ours["rate"],
                    higher_is_better=True,
                ),
            ]
            seconds[case, n] = ours["seconds"]
            for metric, before, how in (
                ("time beside half as many rows", (case, n // 2), "x"),
                ("time beside float32", ("infonce", n) if case == "infonce bf16" else None, "x"),
            ):
                if before in seconds:
                    beside = ours["seconds"] / seconds[before]
                    results.append(Result(case=title, metric=metric, unit=how, ours=beside))
            shown = [
                title,
                f"{ours['seconds']:.3f}",
                f"{ours['mib']:.0f}",
                f"{reached:.0f}",
                f"{ours['rate']:.0f}",
                f"{reached / ours['rate']:.0%}",
            ]
            others = [] if n > args.beside else ["dense", *PEERS.get(case, ())]
            for who in others or [""]:
                peer = elsewhere(case, who, n, args) if who else None
                if who and peer is None:
                    continue
                named = {"peer_name": who, "peer_version": peer_version(who)} if peer else {}
                for metric, unit, key in (
                    ("time", "CPU s" if CPU_TIME else "s", "seconds"),
                    ("memory over base", "MiB", "mib"),
                ):
                    results.append(
                        Result(case=title, metric=metric, unit=unit, ours=ours[key], peer=peer and peer[key], **named)
                    )
                if peer:
                    # The peak may lie below what loading left free: then there is no ratio to give.
                    less = f"{peer['mib'] / ours['mib']:.1f}" if ours["mib"] else "-"
                    table.append([*shown, who, f"{peer['seconds'] / ours['seconds']:.1f}", less])
            if not others:
                table.append([*shown, "-", "-", "-"])
    show(
        ["case", "s", "MiB over base", "GFLOP/s", "rate", "of rate", "beside", "times faster", "times less memory"],
        table,
    )
    finish("contrast", results, device=None if args.device == "cpu" else torch.cuda.get_device_name())


if __name__ == "__main__":
    main()
