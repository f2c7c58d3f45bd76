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
        assert kernel["tensor cores"] == (kernel["factors"] == "bfloat16"), kernel
        assert kernel["spilled"] == 0, kernel
        assert kernel["shared"] <= 99 << 10, kernel  # the least of all GPUs of compute capability 8 and more


class Absent:
    """Answers Triton for a GPU that is not here."""

    def __init__(self, capability: int) -> None:
        from triton.backends.compiler import GPUTarget

        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> Any:
        return self.target

    def get_current_device(self) -> int:
        return self.target.arch  # what is compiled is kept by device

    def get_current_stream(self, device: int) -> int:
        return 0


class Compiler:
    """Stands where the kernel does: compiles it for whatever it is launched with."""

    def __init__(self, kernel: Any, capability: int) -> None:
        self.kernel, self.capability = kernel, capability

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return lambda *args, **how: self.report(self.kernel.warmup(*args, grid=grid, **how | {"INTERPRETED": False}))

    def report(self, made: Any) -> None:
        import triton

        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "kernel.ptx")
            source.write_text(made.asm["ptx"])
            name = f"sm_{self.capability}" + "a" * (self.capability >= 90)
            command = [triton.knobs.nvidia.ptxas.path, "-v", "--gpu-name", name, str(source), "-o", f"{source}.out"]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        found = {
            "capability": self.capability,
            "factors": "bfloat16" if "bf16" in made.asm["ttir"] else "float32",
            "tensor cores": INSTRUCTION[self.capability] in made.asm["ptx"],
            "shared": made.metadata.shared,
            "registers": int(re.search(r"Used (\d+) registers", said)[1]),  # type: ignore[index]
            "spilled": int(re.search(r"(\d+) bytes spill stores", said)[1]),  # type: ignore[index]
        }
        print(json.dumps(found), flush=True)


def main() -> None:
    from triton.runtime import driver

    from counterpoint.kernels import triton, triton_inputs, triton_kernels
    from counterpoint.kernels.backend import Grads, Pull
    from counterpoint.kernels.tile import Job
    from counterpoint.objectives.engine import forms
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
        driver.set_active(Absent(capability))
        triton_kernels.block = Compiler(kernel, capability)
        triton_inputs.SHAPES = {  # on a CPU the entries of 8 are looked up
            (8, name): table.get((capability // 10, name), table[8, name]) for _, name in table
        }
        for rule, precision, linear in jobs:
            plan = Pairing([rule])
            asked = forms.asked(plan, "softmax", both=True, linear=linear, watched=False)
            run = triton.Run(z, z, None, None, Job(rules=plan, asked=asked, tile=4096, precision=precision))
            rows, columns = run.sums(0.0)
            assert columns is not None
            pulls = [Pull(sums, Grads(over=sums.over, dot=sums.dot)) for sums in (rows, columns)]
            run.gradients(0.0, *pulls, (True, True, False, False))


if __name__ == "__main__":
    main()
