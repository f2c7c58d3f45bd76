"""What every encoder answers to, and the one bulk-encoding loop all of them share."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self, TypeVar, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn

from counterpoint.data.batch import Data, move
from counterpoint.encoders.layout import Stage, read_weights, revive, write_weights
from counterpoint.errors import ConfigError, ModelError


@contextmanager
def evaluating(module: nn.Module, *, gradients: bool = False) -> Iterator[None]:
    """Inside: without dropout, and without gradients unless asked for. Afterwards the mode is what it was."""
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode(not gradients):
            yield
    finally:
        module.train(was_training)


class Encoder(nn.Module, ABC):
    """From views of one modality to embeddings.

    kind: the name under which a model folder knows the class. modality: text, image, ... config: a frozen dataclass
    that JSON can hold. dim: width D of an embedding. normalize: whether `encode` returns unit vectors by default.
    prompts: role -> text put before the item (text encoders only). domains: other roles, each with experts of its own.
    fill: name of a tensor that `collate` gives -> what items of unequal length are padded with (0).
    """

    kind: ClassVar[str] = ""
    modality: ClassVar[str]
    config: Any
    dim: int
    normalize: bool = True
    prompts: Mapping[str, str] = MappingProxyType({})
    fill: Mapping[str, int] = MappingProxyType({})
    domains: Sequence[str] = ()

    @abstractmethod
    def collate(self, items: Sequence[Any], role: str | None = None) -> Data:
        """Raw items (strings, images) to what `forward` eats, on the CPU; pure, so it may run in a thread."""

    @abstractmethod
    def forward(self, data: Data) -> Tensor:
        """Embeddings ``(N, D)``, not normalised."""

    def tokens(self, data: Data) -> tuple[Tensor, Tensor]:
        """Token, patch or node embeddings ``(N, T, D)`` and their mask ``(N, T)`` bool (True = real)."""
        raise NotImplementedError(f"{type(self).__name__} gives one embedding per item, none per token.")

    def lengths(self, items: Sequence[Any]) -> np.ndarray:
        """Cost of each item, ``(N,)`` int, used to put items of like length together."""
        return np.ones(len(items), dtype=np.int64)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def encode(
        self,
        items: Sequence[Any],
        *,
        role: str | None = None,
        budget: int = 16_384,
        normalize: bool | None = None,
        precision: str = "float32",
        workers: int | None = None,
    ) -> np.ndarray:
        """Embeddings ``(N, D)`` float32 in the order given; the same item gives the same vector in any company.

        role: which prompt to use (``query``, ``document``; None: no prompt). budget: padded length units (tokens,
        for text) per forward pass. normalize: unit length (None: the encoder's own default). precision: ``float32``
        or ``bfloat16``. workers: batches computed at once on a CPU, each by one thread, which keeps the cores busier
        than every core on every small product (None: as many as torch has threads); other devices take one at a time.
        """
        if precision not in ("float32", "bfloat16"):
            raise ConfigError(f"precision={precision!r}: type float32 or bfloat16.")
        out = np.empty((len(items), self.dim), dtype=np.float32)
        unit = self.normalize if normalize is None else normalize

        def run(index: np.ndarray, data: Data) -> None:
            with torch.inference_mode():
                z = forward(move(data, self.device)).float()
                out[index] = (nn.functional.normalize(z, dim=-1) if unit else z).cpu().numpy()

        with self.evaluating(gradients=True), self._computing(precision) as forward:
            _each(run, self._batches(items, role, budget), self._workers(workers))
        return out

    def evaluating(self, *, gradients: bool = False) -> AbstractContextManager[None]:
        """See `evaluating`."""
        return evaluating(self, gradients=gradients)

    def _workers(self, asked: int | None) -> int:
        if self.device.type != "cpu":
            return 1
        return torch.get_num_threads() if asked is None else asked

    def _batches(self, items: Sequence[Any], role: str | None, budget: int) -> Iterator[tuple[np.ndarray, Data]]:
        """Positions and collated data of batches that together cover the items once."""
        for index in buckets(self.lengths(items), budget):
            yield index, self.collate([items[i] for i in index], role)

    @contextmanager
    def _computing(self, precision: str) -> Iterator[Callable[[Data], Tensor]]:
        """What computes embeddings in this precision; it is called from several threads."""

        def forward(data: Data) -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                return self(data)

        yield forward

    # --- on disk: what `counterpoint.encoders.folder` asks of an encoder -----------------------------------------

    def write(self, folder: Path) -> list[Stage]:
        """Write weights, and whatever else `read` needs, into an existing folder.

        Returns the sentence-transformers modules this wrote, in order; none: that library cannot load the folder.
        """
        write_weights(folder / "model.safetensors", self.state_dict())
        return []

    @classmethod
    def read(cls, folder: Path, config: Mapping[str, Any]) -> Self:
        """The encoder that `write` wrote; config: its configuration as JSON gave it back."""
        encoder = cls(revive(get_type_hints(cls)["config"], config))  # type: ignore[call-arg]  # subclasses take it
        return fitted(encoder, folder)


def find(kind: str) -> type[Encoder]:
    """The encoder class of this kind: the library's, or one that the program has imported."""
    import counterpoint.encoders as package

    for info in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(info.name)
    # "kind" in vars: torch's export leaves subclasses of its own behind, which only inherit one.
    known = {cls.kind: cls for cls in _subclasses(Encoder) if vars(cls).get("kind")}  # type: ignore[type-abstract]
    if kind not in known:
        raise ModelError(
            f"There is no encoder of the kind {kind!r}; known are {', '.join(sorted(known))}. "
            "If it is your own class, import it before loading."
        )
    return known[kind]


def _subclasses(cls: type[Encoder]) -> Iterator[type[Encoder]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)


E = TypeVar("E", bound=Encoder)


def fitted(encoder: E, folder: Path) -> E:
    """The encoder with the weights ``model.safetensors`` of a folder, which must be all of its own and no others."""
    missing, unexpected = encoder.load_state_dict(read_weights(folder / "model.safetensors"), strict=False)
    if missing or unexpected:
        raise ModelError(
            f"The weights in {folder} do not fit its configuration: {len(missing)} are missing and "
            f"{len(unexpected)} unknown, e.g. {(*missing, *unexpected)[0]!r}. Save the model again."
        )
    return encoder


def _each(run: Callable[[np.ndarray, Data], None], batches: Iterator[tuple[np.ndarray, Data]], workers: int) -> None:
    """Run every batch, on several threads of one core each where there is more than one batch."""
    first = next(batches, None)
    second = next(batches, None) if workers > 1 else None
    if first is None or second is None:
        for batch in (first, *batches) if first is not None else ():
            run(*batch)
        return
    threads = torch.get_num_threads()
    pending: set[Future[None]] = set()
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for batch in chain((first, second), batches):
                pending.add(pool.submit(run, *batch))
                if len(pending) >= 2 * workers:  # collated batches wait in memory: not too many
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
            for future in pending:
                future.result()
    finally:
        torch.set_num_threads(threads)  # part of the setting is the process's, not the thread's


def buckets(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Index arrays of items of like length, longest first, each at most ``budget`` padded units (or one item)."""
    order = np.argsort(-lengths, kind="stable")
    out: list[np.ndarray] = []
    start = 0
    while start < len(order):
        n = max(1, budget // max(1, int(lengths[order[start]])))
        out.append(order[start : start + n])
        start += n
    return out
