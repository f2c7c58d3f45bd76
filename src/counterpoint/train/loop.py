"""The training loop: one screen of set-up, one screen of loop, one screen of what happens between steps."""

from __future__ import annotations

import contextlib
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_

from counterpoint import processes
from counterpoint.data.batch import Batch
from counterpoint.errors import CollapseError
from counterpoint.kernels import sizes
from counterpoint.train.average import Average
from counterpoint.train.best import Keeper
from counterpoint.train.budget import Budget
from counterpoint.train.config import TrainConfig
from counterpoint.train.loggers import Logger, loggers
from counterpoint.train.monitors import PATIENCE, Watch, readings
from counterpoint.train.optim import lr_factors, optimizer_of, sam_gradient, set_lr
from counterpoint.train.parallel import spread
from counterpoint.train.prefetch import ahead
from counterpoint.train.protocols import Loader, Renewal, Result, Trainable
from counterpoint.train.run import Run
from counterpoint.train.schedule import lr_factor
from counterpoint.train.setup import check, find_device, improves, own_seed, share, total_steps
from counterpoint.train.signals import Interruption
from counterpoint.train.team import Team, launched, noticing, started


class Trainer:
    """Train a method on the batches of a loader.

    After `fit` the method holds the best weights where a metric was named, else the averaged ones where ``ema`` is on,
    else the last ones.

    folder: where figures and checkpoints go (None: nowhere). evaluate: figures of the method as it is, by name; it may
    draw random numbers without changing the training. extra: what else ``config.json`` should tell. renewal: what of
    the loader's rows is made anew every so many steps; in one process only.

    In a process group, or started by `torchrun`, every process makes its trainer and calls `fit`; each trains on its
    share of every batch. The first process leads: it alone evaluates, logs, and reads and writes the folder.

    resume: go on from the folder's newest checkpoint. overwrite: replace a run that the folder holds.
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
        renewal: Renewal | None = None,
    ) -> None:
        assert isinstance(method, nn.Module)
        self.method, self.module = method, method
        self.loader, self.config, self.evaluate, self.extra = loader, config, evaluate, extra or {}
        self.renewal, self._renewed = renewal, dict[str, float]()
        self.steps = total_steps(config, loader.steps_per_epoch)
        self.folder, leads = None if folder is None else Path(folder), launched()[0] == 0
        self.run = Run(self.folder, resume=resume, overwrite=overwrite) if self.folder and leads else None
        self.device = find_device(config.device)
        check(config, evaluates=evaluate is not None, saves=folder is not None, device=self.device, warn=leads)

    def fit(self) -> Result:
        """Train to the end, to an early stop or to Ctrl-C. Raises `DivergedError` and `CollapseError`."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(noticing())
            stack.enter_context(started(self.config.device))
            self.team = Team()
            self._set_up(stack)
            with contextlib.ExitStack() as logs:
                for logger in self._loggers:
                    logs.callback(logger.close)
                stopped = self._train(logs.enter_context(Interruption(quiet=not self.team.leads)))
            state = self.state
            if stopped == "interrupted" and self.team.leads:
                kept = f" and saved in {self.folder}. Add --resume to continue" if self.folder else ""
                print(f"Stopped after step {state.step} of {self.steps}{kept}.", file=sys.stderr)
            self._keeper.take(state.best)
        self.module.eval()
        metrics = state.best["metrics"] if state.best else state.metrics
        return Result(
            steps=state.step,
            seconds=state.seconds,
            metrics=metrics,
            best=state.best,
            stopped=stopped,
            folder=self.folder,
            still=self.watch.still / self.watch.steps if self.watch.steps else 0.0,
        )

    def _set_up(self, stack: contextlib.ExitStack) -> None:
        config, module, team = self.config, self.module, self.team
        share(self.loader, team.rank, team.world, config.batch)
        settings = team.first(lambda: self.run.begin(config, self.extra) if self.run else {})
        torch.manual_seed(config.seed)
        module.to(self.device).train()
        self.method.micro_batch = config.micro_batch or Budget.of(config, module)
        self.method.precision, self.method.batch_statistics = config.precision, config.batch_statistics
        self.method.before_training(self.steps)
        factors = lr_factors(module, config)
        self.learner = stack.enter_context(spread(module, config, self.device))
        self.optimizer = optimizer_of(self.learner.weights, factors, config, norms=self.learner.norms)
        self._weights = [w for group in self.optimizer.param_groups for w in group["params"]]
        self.average = Average(self.learner.weights, config.ema) if config.ema else None
        if team.rank:
            torch.manual_seed(own_seed(config.seed, team.rank))  # dropout of its own
        kept = self.learner, self.optimizer, self.average, self.device
        self._keeper = Keeper(self.run, *kept, team, saves=self.folder is not None, renewal=self.renewal)
        self.state = self._keeper.resume()
        if self.state.step:
            self.loader.load_state_dict(self.state.loader)
        team.first(lambda: self.run.write_settings(settings) if self.run else None)
        self.watch = Watch(self.state.collapsed)
        self._loggers: list[Logger] = []
        if team.leads:
            folder, step = self.folder, self.state.step
            self._loggers = loggers(config, folder=folder, steps=self.steps, step=step, settings=settings)

    # --- the loop ----------------------------------------------------------------------------------------------

    def _train(self, interruption: Interruption) -> str:
        config, state, team = self.config, self.state, self.team
        if self._over():
            return self._over()
        if state.step == 0 and self.evaluate and config.metric:
            # Says at once, not after hours, that the metric's name is wrong; and what training has to beat.
            self._log(self._evaluate())
        rows_iterator = iter(self.loader)
        own = (team.rank,) if team.rank else ()

        def make(step: int) -> tuple[list[Batch], dict[str, Any]]:
            batches = []
            for k in range(config.accumulate):
                rng = np.random.default_rng((config.seed, step, k, *own))
                batches.append(self.method.views(next(rows_iterator), rng).to(self.device))
            return batches, self.loader.state_dict()

        begun, rows, idle = time.perf_counter(), 0.0, 0.0
        since = begun - state.seconds
        for batches, position in self._feed(make):
            step = state.step + 1
            lr = self._step(step, batches)
            state.step, state.loader = step, position
            rows += sum(map(len, batches))
            last = step == self.steps
            record, self._renewed = self._renewed, {}
            if step % config.log_every == 0 or step == 1 or last:
                record |= self._figures(lr)
                now = time.perf_counter()
                [rows] = team.summed(rows)
                record |= {"rows_per_s": rows / (now - begun - idle), "seconds": now - since}
                begun, rows, idle = now, 0.0, 0.0
            paused = time.perf_counter()
            if self.evaluate and (last or (config.eval_every and step % config.eval_every == 0)):
                record |= self._evaluate()
            if record:
                self._log(record)
            state.seconds = time.perf_counter() - since
            # What the leader's rows show decides for all, as does a signal to any process.
            asked, collapsed = team.summed(interruption.asked, self.watch.collapsed if team.leads else 0)
            state.collapsed = int(collapsed)
            self._stop_on_collapse()
            stopped = self._over() or ("interrupted" if asked else "")
            if stopped or (config.save_every and step % config.save_every == 0):
                self._save(final=bool(stopped))
            if stopped:
                return stopped
            idle += time.perf_counter() - paused
        raise AssertionError("the loop ends at its last step")

    def _feed(self, make: Callable[[int], Any]) -> Iterator[Any]:
        """What is made for each step that is left. No batch is made ahead of a renewal, which it would have missed; a
        run that goes on from a checkpoint of that very step makes it again, from the same weights."""
        first, every = self.state.step + 1, self.renewal.every if self.renewal else 0
        while first <= self.steps:
            if every and first > 1 and (first - 1) % every == 0:
                self._renew()
            last = min(self.steps, -(-first // every) * every) if every else self.steps
            yield from ahead(make, first, last, threaded=self.config.prefetch)
            first = last + 1

    def _renew(self) -> None:
        """The leader does it, which alone has whole weights where they lie in parts; the others get what it holds."""
        renewal, team = self.renewal, self.team
        assert renewal is not None
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), self.learner.shown(None) as method:
            method.eval()
            self._renewed = team.first(lambda: renewal.renew(method))
            method.train()
        if team.world > 1:
            renewal.load(team.spread(lambda: {"renewal": renewal.state()})["renewal"])

    def _step(self, step: int, batches: list[Batch]) -> float:
        """One optimiser step; returns the learning rate. Loss parts are means over the batches accumulated."""
        config, optimizer = self.config, self.optimizer
        whole = math.ceil(self.steps / self.method.rounds)  # steps of a round
        number, done = divmod(step - 1, whole)
        if done == 0:
            optimizer.state.clear()
            self.learner.before_round(number)
        factor = lr_factor(done, whole, config)
        set_lr(optimizer, factor)
        losses: dict[str, Tensor] = {}

        def gradient() -> Tensor:
            nonlocal losses
            found = self.learner.backward(batches)
            losses = losses or found  # SAM comes here twice; the loss is that of the weights as they are
            return torch.stack(list(found.values())).sum()

        with processes.transported(config.transport), sizes.tiles(config.tile):
            if config.sam:
                sam_gradient(self._weights, gradient, rho=config.sam, norm=self.learner.norm)
            else:
                gradient()
        norm = self._clip()
        self.watch.see(step, losses, norm, self.learner.method.observed, batches[-1].labels.get("label"))
        optimizer.step()
        self.learner.after_step(step)
        if self.average:
            self.average.update(step)
        return config.lr * factor

    def _clip(self) -> Tensor:
        """The gradient's norm before clipping, ``()``."""
        gradients = [w.grad for w in self._weights if w.grad is not None]
        norm, most = self.learner.norm(gradients), self.config.clip
        # On a CPU the comparison is free and spares a pass over every gradient; on a GPU it would have to wait.
        if most and (norm.device.type != "cpu" or norm > most):
            clip_grads_with_norm_(self._weights, most, norm)
        return norm

    # --- between steps -----------------------------------------------------------------------------------------

    def _over(self) -> str:
        if self.state.step >= self.steps:
            return "finished"
        return "early" if 0 < self.config.patience <= self.state.stale else ""

    def _figures(self, lr: float) -> dict[str, float]:
        """Of the whole batch: a loss that knows only its process's rows counts with its mean over the processes."""
        self.watch.flush()
        seen = self.team.averaged(self.watch.figures)
        parts = {name: value for name, value in seen.items() if name.startswith("loss/")}
        return {
            "loss": math.fsum(parts.values()),
            **parts,
            "lr": lr,
            "grad_norm": seen["grad_norm"],
            **readings(self.learner.method.observed),
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
        config, state, evaluate = self.config, self.state, self.evaluate
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), self.learner.shown(self.average) as method:

            def figures() -> dict[str, float]:
                return {name: float(value) for name, value in evaluate(method).items()}

            method.eval()
            state.metrics = self.team.first(figures)
            if config.metric:
                if improves(state, config):
                    best = {"step": state.step, "value": state.metrics[config.metric], "metrics": state.metrics}
                    state.best, state.stale = best, 0
                    self._keeper.put_aside(state.step, method)
                else:
                    state.stale += 1
            method.train()
        return {f"eval/{name}": value for name, value in state.metrics.items()}

    def _stop_on_collapse(self) -> None:
        if self.state.collapsed < PATIENCE:
            return
        why = self.team.first(lambda: self.watch.explain(self.state.step))
        if self.config.stop_on_collapse:
            self._save(final=True)
            raise CollapseError(why)
        if self.state.collapsed == PATIENCE and self.team.leads:
            warnings.warn(why, stacklevel=2)

    def _save(self, *, final: bool) -> None:
        self.watch.flush()  # weights that are no longer finite must not replace a good checkpoint
        self._keeper.save(self.state, keep=self.config.keep, final=final)
