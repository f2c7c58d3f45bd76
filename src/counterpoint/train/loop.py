"""The training loop: one screen of set-up, one screen of loop, one screen of what happens between steps."""

from __future__ import annotations

import contextlib
import math
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from counterpoint.data.batch import Batch
from counterpoint.errors import CollapseError
from counterpoint.train.average import Average
from counterpoint.train.config import TrainConfig
from counterpoint.train.contracts import Loader, Result, Trainable
from counterpoint.train.feed import ahead
from counterpoint.train.keeper import Keeper
from counterpoint.train.log import loggers
from counterpoint.train.monitors import PATIENCE, Watch, readings
from counterpoint.train.optim import build_optimizer, sam_gradient, set_lr
from counterpoint.train.run import Run
from counterpoint.train.schedule import lr_factor
from counterpoint.train.setup import check, find_device, improves, total_steps
from counterpoint.train.signals import Interruption


class Trainer:
    """Train a method on the batches of a loader.

    After `fit` the method holds the best weights where a metric was named, else the averaged ones where ``ema`` is on,
    else the last ones.

    folder: where figures and checkpoints go (None: nowhere). evaluate: figures of the method as it is, by name; it may
    draw random numbers without changing the training. extra: what else ``config.json`` should tell.
    """

    def __init__(
        self,
        method: Trainable,
        loader: Loader,
        config: TrainConfig,
        *,
        folder: Path | None = None,
        evaluate: Callable[[Any], Mapping[str, float]] | None = None,
        resume: bool = False,
        overwrite: bool = False,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        assert isinstance(method, nn.Module)
        self.method, self.module = method, method
        self.loader, self.config, self.evaluate, self.extra = loader, config, evaluate, extra or {}
        self.steps = total_steps(config, loader.steps_per_epoch)
        self.run = None if folder is None else Run(Path(folder), resume=resume, overwrite=overwrite)
        self.device = find_device(config.device)
        check(config, evaluates=evaluate is not None, saves=folder is not None, device=self.device)

    def fit(self) -> Result:
        """Train to the end, to an early stop or to Ctrl-C. Raises `DivergedError` and `CollapseError`."""
        self._set_up()
        with contextlib.ExitStack() as stack:
            for logger in self._loggers:
                stack.callback(logger.close)
            stopped = self._train(stack.enter_context(Interruption()))
        if stopped == "interrupted":
            kept = f" and saved in {self.run.folder}. Add --resume to continue" if self.run else ""
            print(f"Stopped after step {self.state.step} of {self.steps}{kept}.", file=sys.stderr)
        self._keeper.take(self.state.best)
        self.module.eval()
        state = self.state
        metrics, folder = state.best["metrics"] if state.best else state.metrics, self.run.folder if self.run else None
        return Result(
            steps=state.step, seconds=state.seconds, metrics=metrics, best=state.best, stopped=stopped, folder=folder
        )

    def _set_up(self) -> None:
        config, module = self.config, self.module
        settings = self.run.begin(config, self.extra) if self.run else {}
        torch.manual_seed(config.seed)
        module.to(self.device).train()
        self.method.micro_batch, self.method.precision = config.micro_batch, config.precision
        self.method.before_training(self.steps)
        self.optimizer = build_optimizer(module, config)
        self._parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.average = Average(module, config.ema) if config.ema else None
        self._keeper = Keeper(self.run, module, self.optimizer, self.average, self.device)
        self.state = self._keeper.resume()
        if self.state.step:
            self.loader.load_state_dict(self.state.loader)
        if self.run:
            self.run.write_settings(settings)
        self.watch = Watch(self.state.collapsed)
        folder = self.run.folder if self.run else None
        self._loggers = loggers(config, folder=folder, steps=self.steps, step=self.state.step, settings=settings)

    # --- the loop ----------------------------------------------------------------------------------------------

    def _train(self, interruption: Interruption) -> str:
        config, state = self.config, self.state
        if self._over():
            return self._over()
        if state.step == 0 and self.evaluate and config.metric:
            # Says at once, not after hours, that the metric's name is wrong; and what training has to beat.
            self._log(self._evaluate())
        rows_iterator = iter(self.loader)

        def make(step: int) -> tuple[list[Batch], dict[str, Any]]:
            batches = []
            for k in range(config.accumulate):
                rng = np.random.default_rng((config.seed, step, k))
                batches.append(self.method.views(next(rows_iterator), rng).to(self.device))
            return batches, self.loader.state_dict()

        begun, rows, idle = time.perf_counter(), 0, 0.0
        started = begun - state.seconds
        for batches, position in ahead(make, state.step + 1, self.steps, threaded=config.prefetch):
            step = state.step + 1
            lr = self._step(step, batches)
            state.step, state.loader = step, position
            rows += sum(map(len, batches))
            last = step == self.steps
            record: dict[str, float] = {}
            if step % config.log_every == 0 or step == 1 or last:
                record = self._figures(lr)
                now = time.perf_counter()
                record |= {"rows_per_s": rows / (now - begun - idle), "seconds": now - started}
                begun, rows, idle = now, 0, 0.0
            paused = time.perf_counter()
            if self.evaluate and (last or (config.eval_every and step % config.eval_every == 0)):
                record |= self._evaluate()
            if record:
                self._log(record)
            state.seconds, state.collapsed = time.perf_counter() - started, self.watch.collapsed
            self._stop_on_collapse()
            stopped = self._over() or ("interrupted" if interruption.asked else "")
            if stopped or (config.save_every and step % config.save_every == 0):
                self._save(final=bool(stopped))
            if stopped:
                return stopped
            idle += time.perf_counter() - paused
        raise AssertionError("the loop ends at its last step")

    def _step(self, step: int, batches: list[Batch]) -> float:
        """One optimiser step; returns the learning rate. Loss parts are means over the batches accumulated."""
        config, optimizer = self.config, self.optimizer
        factor = lr_factor(step - 1, self.steps, config)
        set_lr(optimizer, factor)
        losses: dict[str, Tensor] = {}

        def gradient() -> Tensor:
            nonlocal losses
            found: dict[str, Tensor] = {}
            for batch in batches:
                parts = {name: part / len(batches) for name, part in self.method.losses(batch).items()}
                torch.stack(list(parts.values())).sum().backward()
                for name, part in parts.items():
                    found[name] = found[name] + part.detach() if name in found else part.detach()
            losses = losses or found  # SAM comes here twice; the loss is that of the weights as they are
            return torch.stack(list(found.values())).sum()

        if config.sam:
            sam_gradient(self._parameters, gradient, rho=config.sam)
        else:
            optimizer.zero_grad(set_to_none=True)
            gradient()
        norm = self._clip()
        self.watch.see(step, losses, norm, self.method.observed, batches[-1].labels.get("label"))
        optimizer.step()
        self.method.after_step(step)
        if self.average:
            self.average.update(step)
        return config.lr * factor

    def _clip(self) -> Tensor:
        """The gradient's norm before clipping, ``()``."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm, most = get_total_norm(gradients), self.config.clip
        # On a CPU the comparison is free and spares a pass over every gradient; on a GPU it would have to wait.
        if most and (norm.device.type != "cpu" or norm > most):
            clip_grads_with_norm_(self._parameters, most, norm)
        return norm

    # --- between steps -----------------------------------------------------------------------------------------

    def _over(self) -> str:
        if self.state.step >= self.steps:
            return "finished"
        return "early" if 0 < self.config.patience <= self.state.stale else ""

    def _figures(self, lr: float) -> dict[str, float]:
        self.watch.flush()
        seen = self.watch.figures
        parts = {name: value for name, value in seen.items() if name.startswith("loss/")}
        return {
            "loss": math.fsum(parts.values()),
            **parts,
            "lr": lr,
            "grad_norm": seen["grad_norm"],
            **readings(self.method.observed),
        }

    def _log(self, record: Mapping[str, float]) -> None:
        per_epoch = self.loader.steps_per_epoch
        epoch = {"epoch": self.state.step * self.config.accumulate / per_epoch} if per_epoch else {}
        for logger in self._loggers:
            logger.log({**record, **epoch}, self.state.step)

    def _evaluate(self) -> dict[str, float]:
        """Figures of the weights that would be kept (the average, where it is on); the best so far are put aside."""
        assert self.evaluate is not None
        self.watch.flush()
        config, state, module = self.config, self.state, self.module
        devices = [self.device] if self.device.type == "cuda" else []
        averaged = self.average.applied() if self.average else contextlib.nullcontext()
        module.eval()
        with torch.random.fork_rng(devices), averaged:
            state.metrics = {name: float(value) for name, value in self.evaluate(self.method).items()}
            if config.metric:
                if improves(state, config):
                    best = {"step": state.step, "value": state.metrics[config.metric], "metrics": state.metrics}
                    state.best, state.stale = best, 0
                    self._keeper.put_aside(state.step)
                else:
                    state.stale += 1
        module.train()
        return {f"eval/{name}": value for name, value in state.metrics.items()}

    def _stop_on_collapse(self) -> None:
        if self.watch.collapsed < PATIENCE:
            return
        why = self.watch.explain(self.state.step)
        if self.config.stop_on_collapse:
            self._save(final=True)
            raise CollapseError(why)
        if self.watch.collapsed == PATIENCE:
            warnings.warn(why, stacklevel=2)

    def _save(self, *, final: bool) -> None:
        self.watch.flush()  # weights that are no longer finite must not replace a good checkpoint
        self._keeper.save(self.state, keep=self.config.keep, final=final)
