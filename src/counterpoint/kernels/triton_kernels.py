"""The kernel of `kernels.triton`: one program computes one block of the pair matrix and never writes its scores.

Forward it writes sums of the block by row and by column (each program to a place of its own, so that nothing is added
by atomics and the order of every sum is fixed); backward, the gradient of the loss with respect to the block's scores.

Imported only where the package triton is installed; with TRITON_INTERPRET=1 set before, it runs on CPU tensors.
"""

# mypy: ignore-errors
# (Triton's language knows no annotations but constexpr.)

from __future__ import annotations

import triton
import triton.language as tl

# Planes of what is known of each row and each column, float32. The first five are what the block is pulled by.
OVER = tl.constexpr(0)
OVER_LSE = tl.constexpr(1)
POSITIVES = tl.constexpr(2)
POSITIVES_LSE = tl.constexpr(3)
DOT = tl.constexpr(4)
MARGIN = tl.constexpr(5)  # of rows, as the next two
THRESHOLD = tl.constexpr(6)
TARGET_SHIFT = tl.constexpr(7)
LOG_WEIGHT = tl.constexpr(5)  # of columns

# Planes of codes that are compared for equality, int64.
TARGET = tl.constexpr(0)
DROP_A = tl.constexpr(1)
DROP_B = tl.constexpr(2)


@triton.jit
def products(a, b, width, rows, cols, STEP: tl.constexpr, PRECISION: tl.constexpr, INTERPRETED: tl.constexpr):
    """``a[rows] @ b[cols].T`` in float32; width, a multiple of STEP, is that of both."""
    out = tl.zeros((rows.shape[0], cols.shape[0]), dtype=tl.float32)
    for start in range(0, width, STEP):
        d = start + tl.arange(0, STEP)
        left = tl.load(a + rows[:, None] * width + d[None, :])
        right = tl.load(b + cols[:, None] * width + d[None, :])
        if INTERPRETED:  # the interpreter multiplies bfloat16 factors by the bits that stand for them
            left, right = left.to(tl.float32), right.to(tl.float32)
        out = tl.dot(left, tl.trans(right), out, input_precision=PRECISION)
    return out


@triton.jit
def lse(x, AXIS: tl.constexpr):
    """logsumexp over an axis; -inf where there is nothing."""
    largest = tl.max(x, AXIS)
    largest = tl.where(largest == float("-inf"), 0.0, largest)
    total = tl.sum(tl.exp(x - tl.expand_dims(largest, AXIS)), AXIS)
    return tl.where(total > 0, largest + tl.log(tl.where(total > 0, total, 1.0)), float("-inf"))


@triton.jit
def softplus(s):
    """``log(1 + exp(s))``, also where exp(s) is far below 1 and 1 + exp(s) has lost its digits (Kahan's quotient)."""
    e = tl.exp(-tl.abs(s))
    u = 1.0 + e
    lost = u == 1.0
    log1p = tl.where(lost, e, tl.log(u) * (e / tl.where(lost, 1.0, u - 1.0)))
    return tl.maximum(s, 0.0) + log1p


@triton.jit
def sigmoid(s):
    e = tl.exp(-tl.abs(s))
    return tl.where(s >= 0, 1.0, e) / (1.0 + e)


@triton.jit
def equal(left, right, left_pitch, right_pitch, rows, cols, PLANE: tl.constexpr):
    a = tl.load(left + PLANE * left_pitch + rows)
    b = tl.load(right + PLANE * right_pitch + cols)
    return a[:, None] == b[None, :]


@triton.jit
def put(x, row_at, col_at, row_plane, col_plane, PLANE: tl.constexpr, BOTH: tl.constexpr, ADDED: tl.constexpr):
    """Write the sums of a block by row, and by column where asked for; its logsumexps where it is not to be ADDED."""
    tl.store(row_at + PLANE * row_plane, tl.sum(x, 1) if ADDED else lse(x, 1))
    if BOTH:
        tl.store(col_at + PLANE * col_plane, tl.sum(x, 0) if ADDED else lse(x, 0))


@triton.jit
def outer(left, right, left_pitch, right_pitch, rows, cols, PLANE: tl.constexpr, BOTH: tl.constexpr):
    """``u_i + v_j`` of one plane, or ``u_i`` alone."""
    u = tl.load(left + PLANE * left_pitch + rows)[:, None]
    if BOTH:
        u += tl.load(right + PLANE * right_pitch + cols)[None, :]
    return u


@triton.jit
def softmax_pull(x, left, right, left_pitch, right_pitch, rows, cols, PLANE: tl.constexpr, BOTH: tl.constexpr):
    """``u_i exp(x - lse_i) + v_j exp(x - lse_j)``; PLANE holds u and v, the next one the logsumexps."""
    u = tl.load(left + PLANE * left_pitch + rows)
    over = tl.load(left + (PLANE + 1) * left_pitch + rows)
    g = u[:, None] * tl.exp(x - over[:, None])
    if BOTH:
        v = tl.load(right + PLANE * right_pitch + cols)
        over = tl.load(right + (PLANE + 1) * right_pitch + cols)
        g += v[None, :] * tl.exp(x - over[None, :])
    return g


@triton.jit(do_not_specialize=["n", "m"])
def block(
    # Factors: (n, width) and (m, width); a scalar, or None.
    q,
    k,
    bias,
    # Planes of rows and columns, and the pitch from one plane to the next.
    left,
    right,
    left_codes,
    right_codes,
    left_pitch,
    right_pitch,
    # Embeddings of a teacher, whose products are targets, and of a guide, whose products drop pairs; None where unused.
    teacher_left,
    teacher_right,
    guide_left,
    guide_right,
    # Forward: sums by row and by column, (planes, blocks, pitch). Backward: the gradient (n, m) and its sum per block.
    row_out,
    col_out,
    gradient,
    gradient_sums,
    row_pitch,
    col_pitch,
    n,
    m,
    width,
    teacher_width,
    guide_width,
    slope,
    intercept,
    beta,
    shift,
    # What is asked.
    BACKWARD: tl.constexpr,
    SIGMOID: tl.constexpr,
    BOTH: tl.constexpr,  # sums over rows too
    ADDED: tl.constexpr,  # exponentials with one shift for all (and the sigmoid's terms) are summed; else logsumexps
    OVER_AT: tl.constexpr,  # the planes of the sums; -1: not asked for
    POSITIVES_AT: tl.constexpr,
    DOT_AT: tl.constexpr,  # and total in the plane after it
    N_POSITIVES_AT: tl.constexpr,
    N_DROPPED_AT: tl.constexpr,
    WEIGHTS_AT: tl.constexpr,
    NEGATIVES: tl.constexpr,  # positives are no part of the denominator
    # What the pairing says.
    MATCH: tl.constexpr,  # positives are pairs of equal codes
    SIMILAR: tl.constexpr,  # targets are a teacher's products: 1 linear, 2 their positive part, 3 exponential
    A: tl.constexpr,  # pairs that are dropped by their codes: 0 none, 1 where equal, 2 where not
    A_SPARES: tl.constexpr,  # positives
    B: tl.constexpr,
    B_SPARES: tl.constexpr,
    GUIDED: tl.constexpr,
    GUIDE_SPARES: tl.constexpr,
    MARGINS: tl.constexpr,
    HARD: tl.constexpr,
    WEIGHED: tl.constexpr,
    # How.
    EDGES: tl.constexpr,  # n or m is no multiple of the block
    STEP: tl.constexpr,
    EXACT_STEP: tl.constexpr,  # of what the pairing knows
    PRECISION: tl.constexpr,  # of float32 products: ieee, tf32
    INTERPRETED: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    GROUP: tl.constexpr,
):
    # Which block: GROUP rows of blocks are walked column by column, so that what they share stays in the cache.
    down, across = tl.cdiv(n, ROWS), tl.cdiv(m, COLS)
    pid = tl.program_id(0)
    first = pid // (GROUP * across) * GROUP
    height = tl.minimum(down - first, GROUP)
    i = first + pid % (GROUP * across) % height
    j = pid % (GROUP * across) // height
    rows_out = i * ROWS + tl.arange(0, ROWS)
    cols_out = j * COLS + tl.arange(0, COLS)
    rows = tl.minimum(rows_out, n - 1)  # past the edge the last one is read again, and left out below
    cols = tl.minimum(cols_out, m - 1)

    s = products(q, k, width, rows, cols, STEP, PRECISION, INTERPRETED)
    if bias is not None:
        s += tl.load(bias)

    # What the pairing says of the block: positive, target, gone (dropped, or past the edge), w (log-weight).
    positive = tl.zeros((ROWS, COLS), dtype=tl.int1)
    target = tl.zeros((ROWS, COLS), dtype=tl.float32)
    if MATCH:
        positive = equal(left_codes, right_codes, left_pitch, right_pitch, rows, cols, TARGET)
    if SIMILAR > 0:
        t = products(teacher_left, teacher_right, teacher_width, rows, cols, EXACT_STEP, PRECISION, INTERPRETED)
        target = t * slope + intercept
        if SIMILAR == 2:
            target = tl.maximum(target, 0.0)
        if SIMILAR == 3:
            target = tl.exp(target - tl.load(left + TARGET_SHIFT * left_pitch + rows)[:, None])
        positive = target > 0
    gone = tl.zeros((ROWS, COLS), dtype=tl.int1)
    if A > 0:
        d = equal(left_codes, right_codes, left_pitch, right_pitch, rows, cols, DROP_A)
        if A == 2:
            d = d == 0
        if A_SPARES:
            d = d & (positive == 0)
        gone = gone | d
    if B > 0:
        d = equal(left_codes, right_codes, left_pitch, right_pitch, rows, cols, DROP_B)
        if B == 2:
            d = d == 0
        if B_SPARES:
            d = d & (positive == 0)
        gone = gone | d
    if GUIDED:
        g = products(guide_left, guide_right, guide_width, rows, cols, EXACT_STEP, PRECISION, INTERPRETED)
        d = g > tl.load(left + THRESHOLD * left_pitch + rows)[:, None]
        if GUIDE_SPARES:
            d = d & (positive == 0)
        gone = gone | d
    inside = tl.full((ROWS, COLS), 1, dtype=tl.int1)
    if EDGES:
        inside = (rows_out < n)[:, None] & (cols_out < m)[None, :]
    dropped = gone & inside
    gone = gone | (inside == 0)
    positive = positive & (gone == 0)
    target = tl.where(gone, 0.0, target) if SIMILAR > 0 else positive.to(tl.float32)
    w = tl.zeros((ROWS, COLS), dtype=tl.float32)
    if HARD:
        w = s * beta
    if WEIGHED:
        w += tl.load(right + LOG_WEIGHT * right_pitch + cols)[None, :]
    if HARD or WEIGHED:
        w = tl.where(positive, 0.0, w)
    if MARGINS:
        s = tl.where(positive, s - tl.load(left + MARGIN * left_pitch + rows)[:, None], s)

    # What is summed: e of every pair, 0 (of logsumexps -inf) where there is none.
    NOTHING: tl.constexpr = 0.0 if ADDED else float("-inf")
    if SIGMOID:
        e = sigmoid(s) if BACKWARD else softplus(s)
        if HARD or WEIGHED:
            e *= tl.exp(w)
    else:
        e = s + w if HARD or WEIGHED else s
        if ADDED:
            e = tl.exp(e - shift)
    e = tl.where(gone, NOTHING, e)
    over = tl.where(positive, NOTHING, e) if NEGATIVES else e
    only = tl.where(positive, e, NOTHING)

    if BACKWARD:
        if ADDED:
            g = over * outer(left, right, left_pitch, right_pitch, rows, cols, OVER, BOTH)
            if POSITIVES_AT >= 0:
                g += only * outer(left, right, left_pitch, right_pitch, rows, cols, POSITIVES, BOTH)
        else:
            g = softmax_pull(over, left, right, left_pitch, right_pitch, rows, cols, OVER, BOTH)
            if POSITIVES_AT >= 0:
                g += softmax_pull(only, left, right, left_pitch, right_pitch, rows, cols, POSITIVES, BOTH)
        if DOT_AT >= 0:
            g += target * outer(left, right, left_pitch, right_pitch, rows, cols, DOT, BOTH)
        if gradient_sums is not None:
            tl.store(gradient_sums + pid, tl.sum(tl.sum(g, 1), 0))
        at = gradient + rows_out[:, None] * col_pitch + cols_out[None, :]
        tl.store(at, g.to(gradient.dtype.element_ty))
    else:
        row_at = row_out + j * row_pitch + rows_out
        col_at = row_at
        if BOTH:
            col_at = col_out + i * col_pitch + cols_out
        row_plane, col_plane = across * row_pitch, down * col_pitch
        put(over, row_at, col_at, row_plane, col_plane, OVER_AT, BOTH, ADDED)
        if POSITIVES_AT >= 0:
            put(only, row_at, col_at, row_plane, col_plane, POSITIVES_AT, BOTH, ADDED)
        if DOT_AT >= 0:
            put(target * s, row_at, col_at, row_plane, col_plane, DOT_AT, BOTH, True)
            put(target, row_at, col_at, row_plane, col_plane, DOT_AT + 1, BOTH, True)
        if N_POSITIVES_AT >= 0:
            put(positive.to(tl.float32), row_at, col_at, row_plane, col_plane, N_POSITIVES_AT, BOTH, True)
        if N_DROPPED_AT >= 0:
            put(dropped.to(tl.float32), row_at, col_at, row_plane, col_plane, N_DROPPED_AT, BOTH, True)
        if WEIGHTS_AT >= 0:
            negatives = tl.where(gone | positive, float("-inf"), w)
            put(negatives, row_at, col_at, row_plane, col_plane, WEIGHTS_AT, BOTH, False)
