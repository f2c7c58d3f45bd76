"""Property tests draw the same examples every time: a failure is the change's, not chance's.

Where there is no GPU, Triton's kernels are interpreted. It reads that once, when it is first imported, which other
libraries do.
"""

import os

import torch
from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

if not os.environ.get("COUNTERPOINT_DATA"):  # `make` sets it to nothing where there is no folder of shared data
    os.environ.pop("COUNTERPOINT_DATA", None)
