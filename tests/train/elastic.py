"""One process of a run that `torchrun` starts: ``elastic.py FOLDER DEATHS``; it dies at the steps of DEATHS.

DEATHS: JSON, attempt -> rank -> step. With noise, dropout, an average and an evaluation, as in an ordinary run.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from pathlib import Path

import torch

from counterpoint.train import checkpoint
from counterpoint.train.loop import Trainer
from counterpoint.train.team import started
from tests.train.spread import Shares, Spread, figures, settings


class Mortal(Spread):
    dies = 0

    def after_step(self, step: int) -> None:
        super().after_step(step)
        if step == self.dies:
            os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path, deaths: dict[str, dict[str, int]]) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    method = Mortal("queue", dropout=0.2, noise=0.2)
    method.dies = deaths.get(os.environ["TORCHELASTIC_RESTART_COUNT"], {}).get(os.environ["RANK"], 0)
    config = settings(steps=14, save_every=3, eval_every=4, metric="spread", ema=0.9)
    with started():
        Trainer(method, Shares(), config, folder=folder, evaluate=figures, resume=True).fit()
    if os.environ["RANK"] == "0":
        checkpoint.save(folder / "end", {"method": method.state_dict()}, {})


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
