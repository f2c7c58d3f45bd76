"""The kernels compile for GPUs that are not here, use their tensor cores and keep within their registers.

Run as a program (without the interpreter, which the tests have switched on) this prints what the compiler made of them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
INSTRUCTION = {80: "mma.sync", 90: "wgmma"}


@pytest.mark.skipif(sys.platform != "linux", reason="triton compiles on Linux")
def test_kernels_compile(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    quiet = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernels.test_triton_compile"],
        cwd=ROOT, env={**quiet, "TRITON_CACHE_DIR": str(tmp_path)}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == 12
    for kernel in found:
        assert kernel["tensor cores"] == (kernel["precision"] == "bfloat16"), kernel
        assert kernel["spilled"] == 0, kernel
        assert kernel["shared"] <= 99 << 10, kernel  # the least of all GPUs of compute capability 8 and more


class Recorder:
    """Stands where the kernel does, and keeps what it is launched with."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return lambda *args, **constants: self.calls.append((args, constants))


TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.int64: "*i64", int: "i32", float: "fp32"}


def compiled(kernel: Any, args: tuple[Any, ...], constants: dict[str, Any], capability: int) -> dict[str, Any]:
    """Compile one launch."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    how = {name: constants.pop(name) for name in ("num_warps", "num_stages")}
    constants |= {"INTERPRETED": False, **{name: None for name, a in zip(kernel.arg_names, args) if a is None}}
    types = {
        name: TYPES[a.dtype if isinstance(a, torch.Tensor) else type(a)]
        for name, a in zip(kernel.arg_names, args)
        if a is not None
    }
    signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
    even = {  # what the launcher finds out of its arguments: addresses and numbers that 16 divides
        (i,): [["tt.divisibility", 16]]
        for i, (name, a) in enumerate(zip(kernel.arg_names, args))
        if isinstance(a, torch.Tensor) or (isinstance(a, int) and name not in ("n", "m") and a % 16 == 0)
    }
    made = triton.compile(
        ASTSource(kernel, signature, constants, even), target=GPUTarget("cuda", capability, 32), options=how
    )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(made.asm["ptx"])
        name = f"sm_{capability}a" if capability >= 90 else f"sm_{capability}"
        ptxas = triton.knobs.nvidia.ptxas.path
        command = [ptxas, "-v", "--gpu-name", name, str(source), "-o", str(source) + ".out"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return {
        "capability": capability,
        "tensor cores": INSTRUCTION[capability] in made.asm["ptx"],
        "shared": made.metadata.shared,
        "registers": int(re.search(r"Used (\d+) registers", said)[1]),  # type: ignore[index]
        "spilled": int(re.search(r"(\d+) bytes spill stores", said)[1]),  # type: ignore[index]
    }


def main() -> None:
    from counterpoint.kernels import triton, triton_inputs, triton_kernels
    from counterpoint.kernels.backend import Grads, Pull
    from counterpoint.kernels.tile import Job
    from counterpoint.objectives import forms
    from counterpoint.objectives.pairing import Diagonal, FalseNegatives, Hardness, Labels, NotSelf, TeacherSimilarity
    from counterpoint.objectives.rules import Pairing

    kernel, table = triton_kernels.block, triton_inputs.SHAPES
    z, y = torch.ones(256, 64), torch.arange(256)
    jobs: list[tuple[Any, Any, Any]] = [
        (Diagonal(), "bfloat16", True),
        (TeacherSimilarity(z, temperature=0.1) & NotSelf(), "bfloat16", False),
        (Labels(y) & FalseNegatives(z) & Hardness(0.5), "full", False),
    ]
    for capability in INSTRUCTION:
        triton_inputs.SHAPES = {
            (8, name): table.get((capability // 10, name), shape)
            for (major, name), shape in table.items()
            if major == 8
        }
        for rule, precision, linear in jobs:
            plan = Pairing([rule])
            asked = forms.asked(plan, "softmax", both=True, linear=linear, watched=False)
            run = triton.Run(z, z, None, None, Job(rules=plan, asked=asked, tile=4096, precision=precision))
            triton_kernels.block = launches = Recorder()
            rows, columns = run.sums(0.0)
            assert columns is not None
            pulls = [Pull(sums, Grads(over=sums.over, dot=sums.dot)) for sums in (rows, columns)]
            run.gradients(0.0, *pulls, (True, True, False, False))
            for args, constants in launches.calls:
                print(json.dumps({"precision": precision, **compiled(kernel, args, constants, capability)}), flush=True)


if __name__ == "__main__":
    main()
