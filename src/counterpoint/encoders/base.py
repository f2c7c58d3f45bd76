"""What every encoder answers to, how many items are encoded, and how its class is found."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol, Self, TypeVar, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn

from counterpoint.data.batch import Data, move
from counterpoint.data.schema import Known
from counterpoint.encoders.bulk import buckets, each, placed, sequence
from counterpoint.encoders.layout import Stage, read_weights, revive, write_weights
from counterpoint.encoders.prompts import check_role, known_roles
from counterpoint.errors import ConfigError, ModelError, NotFiniteError
from counterpoint.modalities.base import of as modality_of


@contextmanager
def evaluating(module: nn.Module, *, gradients: bool = False) -> Iterator[None]:
    """Inside: without dropout, and without gradients unless asked for. Afterwards the mode is what it was.

    module: any, with all that is in it.

    >>> layer = nn.Dropout(0.5)
    >>> with evaluating(layer):
    ...     layer(torch.ones(4)).tolist(), layer.training
    ([1.0, 1.0, 1.0, 1.0], False)
    """
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode(not gradients):
            yield
    finally:
        module.train(was_training)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside: what torch draws on the CPU follows from the seed. Afterwards its generator stands where it stood.

    seed: any whole number.

    >>> def draw():
    ...     with seeded(1):
    ...         return float(torch.rand(()))
    >>> draw() == draw()
    True
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def noise(*shape: int) -> Tensor:
    """Normal numbers, always the same: what ONNX files of encoders that read numbers are traced with."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class Source(Protocol):
    """What an encoder is built from: any `counterpoint.data.schema.RowSet`, or a stream."""

    def texts(self, limit: int) -> Iterator[str]:
        """At most so many texts, from which a vocabulary is learned.

        limit: the most that are wanted.
        """
        ...

    def known(self, modality: str) -> Known:
        """What the rows tell of their items of this modality."""
        ...


def small_rows(modality: str) -> Source:
    """Rows of a modality's examples, from which small encoders are built."""
    from counterpoint.data.rowset import Made

    rng = np.random.default_rng(0)
    return Made([{modality: modality_of(modality).example(rng)} for _ in range(40)])


VOCABULARY_FROM = 200_000
"""Texts that a vocabulary is learned from, at most."""


@dataclass(frozen=True, kw_only=True)
class Traced:
    """An encoder as one function of tensors, by which it is written as an ONNX file.

    forward: from the inputs to embeddings ``(N, D)``, not normalised, without sorting, packing or dropout. example:
    what `Encoder.collate` gives for a few items, to trace and check it with (None: whoever exports it gives some).
    names: of the inputs in their order, keys of what `Encoder.collate` gives where that is a mapping. free: axis -> its
    name, of the axes of every input that may have any size. beside: writes what a reader of the file needs too, beside
    a path (None: nothing).
    """

    forward: Callable[..., Tensor]
    example: Data | None
    names: tuple[str, ...] = ("input",)
    free: Mapping[int, str] = field(default_factory=lambda: {0: "batch"})
    beside: Callable[[Path], None] | None = None

    def inputs(self, data: Data) -> tuple[Tensor, ...]:
        """What `Encoder.collate` gives, as arguments of ``forward``.

        data: a tensor, or a mapping that has ``names``.
        """
        if isinstance(data, Tensor):
            return (data,)
        if unknown := sorted(set(self.names) - set(data)):
            raise ModelError(
                f"`collate` gives {', '.join(sorted(data))}, and this encoder is traced with {', '.join(unknown)}. "
                "Say in its `traced` which of them go in, and how they are embedded."
            )
        return tuple(data[name] for name in self.names)


class Encoder(nn.Module, ABC):
    """From views of one modality to embeddings.

    Facts of the class. kind: the name under which a model folder knows it. modality: text, image, ... choices: words
    after ``--encoder`` that pick it, its own first (none: it is made by a method, around other encoders). standard:
    whether it is what its modality has where nobody chooses; one class of each modality is. begins: the settings that
    train it where a word picked it: the ``recipe``'s, or, of a transformer with random weights, those for ``scratch``.

    Of an encoder. config: a frozen dataclass that JSON can hold; a class that is built from one alone names its type
    (``config: MyConfig``). dim: width D of an embedding. normalize: whether `encode` returns unit vectors by default.
    prompts: role -> text put before the item (text encoders only). default_prompt: the role whose prompt is put where
    none is asked for (None: no prompt then). domains: other roles, each with experts of its own. similarity: by what
    embeddings are meant to be compared (cosine, dot, euclidean, manhattan), as its folder says. origin: the folder it
    was read from, for messages. fill: name of a tensor that `collate` gives -> what items of unequal length are padded
    with (0).

    >>> from counterpoint.encoders.vectors import VectorConfig, Vectors
    >>> encoder = Vectors(VectorConfig(features=2, dim=0))
    >>> encoder.dim, encoder.modality, encoder.encode([[3.0, 4.0]], normalize=True).round(3).tolist()
    (2, 'vector', [[0.6000000238418579, 0.800000011920929]])
    """

    kind: ClassVar[str] = ""
    modality: ClassVar[str]
    choices: ClassVar[tuple[str, ...]] = ()
    standard: ClassVar[bool] = False
    begins: ClassVar[Literal["recipe", "scratch"]] = "recipe"
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
        """Raw items (strings, images) to what `forward` eats, on the CPU; pure, so it may run in a thread.

        items: N of them. role: whose prompt is put before each (None: the `default_prompt`, where there is one).
        """

    @abstractmethod
    def forward(self, data: Data) -> Tensor:
        """Embeddings ``(N, D)``, not normalised.

        data: as `collate` gives it, on the encoder's device.
        """

    def tokens(self, data: Data) -> tuple[Tensor, Tensor]:
        """Token, patch or node embeddings ``(N, T, D)`` and their mask ``(N, T)`` bool (True = real).

        data: as `collate` gives it, on the encoder's device.
        """
        raise NotImplementedError(f"{type(self).__name__} gives one embedding per item, none per token.")

    def lengths(self, items: Sequence[Any]) -> np.ndarray:
        """Cost of each item, ``(N,)`` int, used to put items of like length together."""
        return np.ones(len(items), dtype=np.int64)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    # --- what may be given -----------------------------------------------------------------------------------------

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that `encode` takes beside None."""
        return known_roles(self.prompts, self.domains, self.default_prompt)

    def check_role(self, role: str | None) -> None:
        """Refuse a role that there is none of, with those there are."""
        check_role(role, self.roles, f"the {self.tower}")

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

        items: a sequence of N items; or one item, such as a text, an image or a row of a table, whose embedding
        ``(D,)`` comes back alone. role: whose prompt to put before each: ``query``, ``document`` or another of `roles`
        (None: the `default_prompt`, where there is one). budget: padded length units (tokens, for text) per forward
        pass. normalize: unit length (None: the encoder's own default). precision: ``float32`` or ``bfloat16``. workers:
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
            each(run, self._batches(listed, role, budget), self._workers(workers))
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
        """See `evaluating`.

        gradients: are wanted inside.
        """
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

    # --- made ------------------------------------------------------------------------------------------------------

    @classmethod
    def configured(cls, choice: str, recipe: Any = None, *, smoke: bool = False) -> Any:
        """The configuration of a fresh encoder of this class.

        choice: the one of `choices` that was asked for. recipe: a method's configuration, kept where it is of this
        class; of another one, what both types inherit is. smoke: as small as can be, where nothing is kept.
        """
        kind = config_of(cls)
        if isinstance(recipe, kind):
            return recipe
        both = next((t for t in kind.__mro__[1:-1] if isinstance(recipe, t)), None)
        return kind(**{f.name: getattr(recipe, f.name) for f in fields(both)} if both else {})

    @classmethod
    def build(cls, config: Any, rows: Source) -> Self:
        """A fresh encoder from its configuration; what that leaves open (a vocabulary, the width of vectors, the
        columns of a table) is learned from the rows; here the width, ``features``, where there is such a setting.
        Weights are drawn from torch's generator."""
        if getattr(config, "features", None) == 0:
            config = replace(config, features=rows.known(cls.modality).width)
        return cls(config)  # type: ignore[call-arg]  # subclasses take it

    @classmethod
    def published(cls, source: str | Path) -> Encoder:
        """The encoder of this modality with weights that others published: a folder, or a hub id where there is no
        such folder. Raises `ConfigError` where none are read.

        source: its path or id.
        """
        raise ConfigError(
            f"{source} is no model folder of Counterpoint, and weights of others are not read for such rows."
        )

    @classmethod
    def example(cls, seed: int = 0) -> Self:
        """A small encoder of this class with weights that follow from the seed, for checks and examples."""
        raise NotImplementedError(f"{cls.__name__} has no example: give the class one.")

    def traced(self) -> Traced:
        """How an ONNX file sees the encoder. Raises `ModelError` where there can be none, which says why."""
        return Traced(forward=self.forward, example=None)

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
        encoder = cls(revive(config_of(cls), config))  # type: ignore[call-arg]  # subclasses take it
        return fitted(encoder, folder)


# --- classes, found by importing the modules of `counterpoint.encoders` --------------------------------------------


def discover() -> dict[str, type[Encoder]]:
    """Kind -> class: every encoder of the library, and those that the program has imported.

    >>> discover()["static-text"].modality
    'text'
    """
    import counterpoint.encoders as package

    for info in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(info.name)
    # "kind" in vars: torch's export leaves subclasses of its own behind, which only inherit one.
    found = (cls for cls in _subclasses(Encoder) if vars(cls).get("kind"))  # type: ignore[type-abstract]
    return {cls.kind: cls for cls in found if not inspect.isabstract(cls)}


def find(kind: str) -> type[Encoder]:
    """The encoder class of this kind: the library's, or one that the program has imported.

    kind: its name. Raises `ConfigError` where there is none.

    >>> find("convnet").modality
    'image'
    """
    if (cls := _imported(kind)) is not None:
        return cls
    if (module := _module_of(kind)) is not None:
        importlib.import_module(module)
    known = {kind: cls} if (cls := _imported(kind)) is not None else discover()
    if kind not in known:
        raise ModelError(
            f"There is no encoder of the kind {kind!r}; known are {', '.join(sorted(known))}. "
            "If it is your own class, import it before loading."
        )
    return known[kind]


def _imported(kind: str) -> type[Encoder] | None:
    """The class of a kind among those that are imported."""
    found = (cls for cls in _subclasses(Encoder) if vars(cls).get("kind") == kind)  # type: ignore[type-abstract]
    return next((cls for cls in found if not inspect.isabstract(cls)), None)


def _module_of(kind: str) -> str | None:
    """The module of the library whose source declares a kind: to import all of them takes seconds."""
    folder = Path(__file__).parent
    said = re.compile(rf'^    kind: ClassVar\[str\] = "{re.escape(kind)}"$', re.MULTILINE)
    files = (path for path in sorted(folder.glob("*.py")) if said.search(path.read_text(encoding="utf-8")))
    return next((f"counterpoint.encoders.{path.stem}" for path in files), None)


def config_of(cls: type[Encoder]) -> Any:
    """The type of a class's configuration; None where that is not all it is made from (encoders around others).

    cls: a class of encoders.
    """
    found = get_type_hints(cls).get("config")
    return found if is_dataclass(found) else None


def made_by(config: Any) -> type[Encoder]:
    """The class that encoders of this configuration are of.

    config: of an encoder.
    """
    known = {config_of(cls): cls for cls in discover().values()}
    for kind in type(config).__mro__[:-1]:
        if kind in known:
            return known[kind]
    raise ConfigError(f"{type(config).__name__} is no configuration of an encoder.")


def build(config: Any, rows: Source) -> Encoder:
    """A fresh encoder from its configuration, of whichever class that is one of; see `Encoder.build`.

    config: of an encoder. rows: that it learns a vocabulary, columns or widths from.
    """
    return made_by(config).build(config, rows)


def choices(modality: str) -> dict[str, type[Encoder]]:
    """Words after ``--encoder`` -> the class of this modality that each picks, the standard class's first.

    Of classes that share a word, it picks the one whose own (first) word it is.

    modality: its name.

    >>> list(choices("text"))
    ['static', 'causal', 'residual', 'transformer']
    """
    of = [cls for cls in discover().values() if cls.choices and cls.modality == modality]
    of.sort(key=lambda cls: (not cls.standard, cls.choices))
    own = {cls.choices[0]: cls for cls in of}
    return own | {word: cls for cls in of for word in cls.choices if word not in own}


def standard(modality: str) -> type[Encoder]:
    """The class that a modality has where nobody chooses.

    modality: its name.

    >>> standard("image").kind
    'convnet'
    """
    for cls in choices(modality).values():
        return cls  # it comes first
    raise ConfigError(f"There is no encoder of {modality}s; there are encoders of {', '.join(modalities())}.")


def has_published_weights(modality: str) -> bool:
    """Whether an encoder of a modality can begin with weights that others published."""
    classes = {cls for choice in choices(modality).values() for cls in choice.__mro__}
    return any("published" in vars(cls) for cls in classes - {Encoder})


def modalities() -> list[str]:
    """Modalities of which a word after ``--encoder`` picks an encoder."""
    return sorted({cls.modality for cls in discover().values() if cls.choices})


def picked(modality: str, choice: str, recipe: Any = None) -> type[Encoder] | None:
    """The class that a word picks for a modality, None where it is no such word.

    recipe: a method's configuration, whose class goes before others that have the word too. modality: its name. choice:
    the word.
    """
    own = None if recipe is None else made_by(recipe)
    if own is not None and own.modality == modality and choice in own.choices:
        return own
    return choices(modality).get(choice)


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
