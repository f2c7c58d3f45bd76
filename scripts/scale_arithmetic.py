"""The figures of docs/scale.md, from formulas and from assumptions that are printed with them. Nothing is measured.

python scripts/scale_arithmetic.py
"""

from __future__ import annotations

from collections.abc import Sequence

# What is assumed. Rates are what a program gets, not what a data sheet says.
P = 8  # processes, one GPU each
N = 1_000_000  # rows in the global batch; as many candidates
D = 256  # width of an embedding
RATE = 400e12  # FLOP/s of matrix products in bf16, per GPU: 40 % of what an H100's sheet says
LINKS = {"NVLink, 300 GB/s": 300e9, "100 Gb/s, 80 % used": 10e9, "10 Gb/s, 80 % used": 1e9}  # bytes/s per process
WEIGHTS, LAYERS, HIDDEN = 85e6, 12, 768  # of the encoder, without its table of tokens
VIEWS, TOKENS = 2, 64  # texts in a row, tokens in a text
MEMORY = 8 * 2**30  # --memory 8GiB
# Bytes per token kept for the backward pass in bf16, attention not materialised (Korthikanti et al., 2022).
ACTIVATIONS = 34 * HIDDEN * LAYERS
CORPUS = 1_000_000_000  # rows
RAW, PACKED = 500, 200  # bytes of a row as text, and in parquet
SHARD, PIECE, LANES, BUFFER = 256 * 2**20, 8 * 2**20, 48, 10_000  # the last three: the reader's own
LATENCY, AT_ONCE = 0.05, 16  # seconds per request to a store, requests at a time

own = N / P  # rows per process


def seconds(x: float) -> str:
    if x < 1e-3:
        return f"{1e6 * x:.0f} us"
    if x < 1:
        return f"{1e3 * x:.3g} ms"
    return f"{x:.3g} s" if x < 600 else f"{x / 3600:.2f} h"


def size(x: float) -> str:
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if x >= unit:
            return f"{x / unit:.3g} {name}"
    return f"{x:.0f} B"


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    print(f"\n{title}")
    for r in [head, ["-" * w for w in widths], *rows]:
        print("  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths))).rstrip())


def moved(width: int) -> tuple[float, float]:
    """Bytes that a process receives in a step for the loss: (gather, ring)."""
    others = (P - 1) * own * D * width
    # gather: candidates forward, the parts of their gradients backward. ring: candidates forward; candidates and
    # gradients backward.
    return 2 * others, 3 * others


def main() -> None:
    print(f"{P} processes, batch {N:,}, width {D}; {RATE / 1e12:.0f} TFLOP/s per GPU; encoder of {WEIGHTS / 1e6:.0f} M")
    print(
        f"weights, {VIEWS} texts of {TOKENS} tokens per row; corpus of {CORPUS:,} rows, {PACKED} bytes each in parquet"
    )

    rows = []
    for name, width in (("bf16", 2), ("fp32", 4)):
        for how, b in zip(("gather", "ring"), moved(width)):
            rows.append([f"{how}, {name}", size(b), *(seconds(b / link) for link in LINKS.values())])
    gradients = 2 * (P - 1) / P * WEIGHTS * 4
    rows.append(["encoder's gradients", size(gradients), *(seconds(gradients / link) for link in LINKS.values())])
    table("1. Received by each process in a step", ["", "bytes", *LINKS], rows)

    products = 4 * 2 * N * N * D / P
    block = 2 * own * own * D / RATE
    rows = [["the loss, forward and backward", f"{products:.3g}", seconds(products / RATE)]]
    tokens = own * VIEWS * TOKENS
    encoder = 8 * WEIGHTS * tokens
    rows.append(["the encoder, with gradient caching", f"{encoder:.3g}", seconds(encoder / RATE)])
    table("2. Computed by each process in a step", ["", "FLOP", "at the rate"], rows)

    rows = []
    for name, link in LINKS.items():
        travel = own * D * 2 / link
        enough = 2 * RATE / (2 * link)
        rows.append([name, seconds(travel), seconds(block), "yes" if travel < block else "no", f"{enough:,.0f}"])
    head = ["", "a block travels", "and is worked on", "hidden", "rows per process that hide it"]
    table("3. The ring, bf16: is the network hidden behind the products of a forward block?", head, rows)

    rows = []
    for name, width in (("bf16", 2), ("fp32", 4)):
        rows.append([f"gather: all candidates and their gradients, {name}", size(2 * N * D * width)])
        rows.append([f"ring: two blocks and their gradients, {name}", size(4 * own * D * width)])
    rows.append(["own embeddings and their gradients, both sides, fp32", size(2 * 2 * own * D * 4)])
    rows.append(["the scores, if they existed (own rows x all), fp32", size(own * N * 4)])
    table("4. Held by each process for the loss", ["", "bytes"], rows)

    a_text = ACTIVATIONS * TOKENS
    micro = int(MEMORY // a_text)
    rows = [
        ["activations of a text", size(a_text)],
        ["activations of a process's whole batch, without caching", size(a_text * own * VIEWS)],
        ["texts in 8 GiB of activations", f"{micro:,}"],
        ["passes over the encoder, each way", f"{-(-own * VIEWS // micro):,.0f}"],
    ]
    table("5. Gradient caching (--memory 8GiB)", ["", "each process"], rows)

    step = encoder / RATE + products / RATE
    steps = CORPUS / N
    epoch = steps * step
    rows = [
        ["a step, encoder and loss", seconds(step)],
        ["steps in an epoch", f"{steps:,.0f}"],
        ["an epoch", seconds(epoch)],
        ["rows per second, all processes", f"{N / step:,.0f}"],
        ["tokens per second, all processes", f"{N * VIEWS * TOKENS / step:,.0f}"],
        ["read per second, all processes", size(PACKED * N / step)],
        ["read per second, each process", size(PACKED * own / step)],
    ]
    table("6. Time, and what has to be read in it", ["", "figure"], rows)

    stored = CORPUS * PACKED
    shards = -(-stored // SHARD)
    pieces = CORPUS * RAW / PIECE  # counted before compression
    rows = [
        ["as text", size(CORPUS * RAW)],
        ["in parquet", size(stored)],
        [f"shards of {SHARD // 2**20} MiB", f"{shards:,.0f}"],
        [f"pieces of {PIECE // 2**20} MiB of text (row groups, or several)", f"{pieces:,.0f}"],
        [f"read twice, as {LANES} lanes begin within a piece", f"{LANES / 2 / pieces:.2%} of an epoch"],
        ["counting the rows: two requests per shard", seconds(2 * shards * LATENCY / AT_ONCE)],
        ["counting the rows of as much compressed text, 100 MB/s per process", seconds(stored / P / 100e6)],
        ["read again after a kill, at most, each process", size(LANES / P * PIECE + BUFFER / P * RAW)],
        ["embeddings of every row, bf16", size(CORPUS * D * 2)],
        ["encoding every text once, forward only", seconds(2 * WEIGHTS * CORPUS * VIEWS * TOKENS / RATE / P)],
    ]
    table("7. A corpus of a billion rows", ["", "figure"], rows)


if __name__ == "__main__":
    main()
