"""What every encoder answers to, and the one bulk-encoding loop all of them share."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from difflib import get_close_matches
from itertools import chain
from numbers import Real
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self, TypeVar, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn

from counterpoint.data.batch import Data, move
from counterpoint.encoders.layout import Stage, read_weights, revive, write_weights
from counterpoint.errors import ConfigError, DataError, ItemError, ModelError, NotFiniteError

ROLES = ("query", "document")
"""Roles that every encoder takes, whether it has a prompt for them or not."""
NO_PROMPT = "none"
"""The role that asks for no prompt, of an encoder that would otherwise put one before every item."""


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
    prompts: role -> text put before the item (text encoders only). default_prompt: the role whose prompt is put where
    none is asked for (None: no prompt then). domains: other roles, each with experts of its own. similarity: by what
    embeddings are meant to be compared (cosine, dot, euclidean, manhattan), as its folder says. origin: the folder it
    was read from, for messages. fill: name of a tensor that `collate` gives -> what items of unequal length are padded
    with (0).
    """

    kind: ClassVar[str] = ""
    modality: ClassVar[str]
    config: Any
    dim: int
    normalize: bool = True
    prompts: Mapping[str, str] = MappingProxyType({})
    default_prompt: str | None = None
    fill: Mapping[str, int] = MappingProxyType({})
    domains: Sequence[str] = ()
    similarity: str = "cosine"
    origin: str = ""

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

    # --- what may be given -----------------------------------------------------------------------------------------

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that `encode` takes beside None."""
        none = (NO_PROMPT,) if self.default_prompt is not None else ()
        return tuple(dict.fromkeys((*ROLES, *self.prompts, *self.domains, *none)))

    def check_role(self, role: str | None) -> None:
        """Refuse a role that there is none of, with those there are."""
        if role is None or role in self.roles:
            return
        close = get_close_matches(str(role), self.roles, n=1)
        meant = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"role={role!r}: the {self.tower} knows {', '.join(self.roles)}.{meant}")

    def prompt(self, role: str | None) -> str:
        """The text that is put before items of a role; '' where there is none. `ConfigError` for unknown roles."""
        self.check_role(role)
        role = self.default_prompt if role is None else role
        return "" if role is None else self.prompts.get(role, "")

    @property
    def tower(self) -> str:
        """The encoder in words, for messages."""
        of = f" of {self.origin}" if self.origin else ""
        return f"{self.modality} encoder ({self.kind or type(self).__name__}){of}"

    def is_one(self, items: Any) -> bool:
        """Whether what was given to `encode` is one item, not a sequence of items."""
        return isinstance(items, str | bytes | os.PathLike | Mapping)

    def listed(self, items: Any) -> Sequence[Any]:
        """Several items, in whatever they were given, as a sequence."""
        return sequence(items)

    def check(self, items: Sequence[Any]) -> None:
        """Refuse items that can be seen to be of the wrong type, with the place and the type: `ItemError`."""

    # --- encoding --------------------------------------------------------------------------------------------------

    def encode(
        self,
        items: Any,
        *,
        role: str | None = None,
        budget: int = 16_384,
        normalize: bool | None = None,
        precision: str = "float32",
        workers: int | None = None,
    ) -> np.ndarray:
        """Embeddings ``(N, D)`` float32 in the order given; the same item gives the same vector in any company.

        items: a sequence of N items; or one item, such as a text, an image or a row of a table, whose embedding ``(D,)``
        comes back alone. role: whose prompt to put before each: ``query``, ``document`` or another of `roles` (None: the
        `default_prompt`, where there is one). budget: padded length units (tokens, for text) per forward pass.
        normalize: unit length (None: the encoder's own default). precision: ``float32`` or ``bfloat16``. workers:
        batches computed at once on a CPU, each by one thread, which keeps the cores busier than every core on every
        small product (None: as many as torch has threads); other devices take one at a time.

        Raises `DataError` for items that cannot be encoded, naming their place; `ConfigError` for a role that there is
        none of; `NotFiniteError` where an embedding is not finite.
        """
        if precision not in ("float32", "bfloat16"):
            raise ConfigError(f"precision={precision!r}: type float32 or bfloat16.")
        self.check_role(role)
        one = self.is_one(items)
        listed = [items] if one else self.listed(items)
        self.check(listed)
        out = np.empty((len(listed), self.dim), dtype=np.float32)
        unit = self.normalize if normalize is None else normalize
        bad: list[int] = []

        def run(index: np.ndarray, data: Data) -> None:
            with torch.inference_mode():
                z = forward(move(data, self.device)).float()
                out[index] = (nn.functional.normalize(z, dim=-1) if unit else z).cpu().numpy()
            if not np.isfinite(part := out[index]).all():
                self._check_weights(len(listed))
                bad.extend(index[~np.isfinite(part).all(axis=1)].tolist())

        with self.evaluating(gradients=True), self._computing(precision) as forward:
            _each(run, self._batches(listed, role, budget), self._workers(workers))
        if bad:
            raise NotFiniteError(self.tower, tuple(sorted(bad)), len(listed))
        return out[0] if one else out

    def _check_weights(self, of: int) -> None:
        """Say so at once where it is the weights that are not finite, and not single items."""
        broken = (name for name, weight in self.named_parameters() if not bool(torch.isfinite(weight).all()))
        # Buffers may hold infinity, as a mask does.
        worn = (name for name, buffer in self.named_buffers() if bool(torch.isnan(buffer).any()))
        if (name := next(chain(broken, worn), None)) is not None:
            raise NotFiniteError(self.tower, (), of, name)

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
            with placed(index, len(items)):
                data = self.collate([items[i] for i in index], role)
            yield index, data

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


@contextmanager
def placed(index: Sequence[int] | np.ndarray, of: int) -> Iterator[None]:
    """Inside, the items at ``index`` of so many are collated: an error names the place among all of them."""
    try:
        yield
    except ItemError as error:
        raise error.at(int(index[error.place]), of) from error


def is_vector(items: Any) -> bool:
    """Whether something is one row of numbers: an array ``(T,)``, or a list whose first entry is a number."""
    if isinstance(items, np.ndarray | Tensor):
        return items.ndim == 1 and (isinstance(items, Tensor) or items.dtype.kind in "iufb")
    return isinstance(items, list | tuple) and bool(items) and isinstance(items[0], Real)


def sequence(items: Any) -> Sequence[Any]:
    """What was given as a sequence: lists, tuples, arrays and other sequences as they are; a column of a data frame,
    an Arrow array and whatever else can be gone through once as a list."""
    if isinstance(items, Sequence | np.ndarray | Tensor) and getattr(items, "ndim", 1):
        return items  # type: ignore[return-value]  # an array can be asked for its length and for a place
    given = type(items).__name__
    if isinstance(items, set | frozenset):
        raise DataError(f"A {given} has no order, so nobody could tell whose embedding is whose. Give a list.")
    if hasattr(items, "columns") or hasattr(items, "column_names"):
        raise DataError(f"A {given} is a table: give one of its columns, as in encode(list(table['text'])).")
    if hasattr(items, "to_pylist"):
        return items.to_pylist()  # type: ignore[no-any-return]
    if isinstance(items, Iterable) and getattr(items, "ndim", 1):
        return list(items)
    raise DataError(f"One {given} was given, where an item or a list of items is expected.")


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
