"""Bags: several instances that are one thing (the patches of a slide, the sentences of a report), one embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from counterpoint.data.batch import Data, Whole, move
from counterpoint.encoders.base import Encoder, Traced, find, seeded
from counterpoint.encoders.layout import Stage, read_weights, write_weights
from counterpoint.encoders.vectors import Vectors
from counterpoint.errors import ItemError, ModelError


@dataclass(frozen=True, kw_only=True)
class BagConfig:
    """width: of the attention's hidden layer. gated: whether a second layer gates the first. labels: the classes that
    bags are told apart into, none: no classifier. kind, inner: the encoder of instances and its configuration."""

    width: int = 128
    gated: bool = True
    labels: tuple[str, ...] = ()
    kind: str = ""
    inner: dict[str, Any] = field(default_factory=dict)


class BagAttention(nn.Module):
    """Weighted mean of a bag's instances, with weights that are learned (Ilse et al. 2018, arXiv 1802.04712).

    a_j = softmax over the bag of w·tanh(V h_j), or, gated, of w·(tanh(V h_j) * sigmoid(U h_j)).

    dim: D. width: rows of V and U.

    >>> attention = BagAttention(dim=4, width=8)
    >>> instances, owner = torch.randn(5, 4), torch.tensor([0, 0, 0, 1, 1])
    >>> weights = attention.weights(instances, owner, 2)
    >>> attention(instances, owner, 2).shape, round(weights[:3].sum().item(), 4)
    (torch.Size([2, 4]), 1.0)
    """

    def __init__(self, dim: int, width: int = 128, *, gated: bool = True) -> None:
        super().__init__()
        self.look = nn.Linear(dim, width)
        self.gate = nn.Linear(dim, width) if gated else None
        self.score = nn.Linear(width, 1, bias=False)

    def weights(self, instances: Tensor, owner: Tensor, bags: int) -> Tensor:
        """Shares ``(M,)`` of instances ``(M, D)`` in their bags; owner ``(M,)`` long: the bag of each. They sum to 1
        over every bag that has any."""
        seen = torch.tanh(self.look(instances))
        if self.gate is not None:
            seen = seen * torch.sigmoid(self.gate(instances))
        score = self.score(seen).squeeze(-1)
        highest = score.new_full((bags,), float("-inf")).scatter_reduce(0, owner, score.detach(), "amax")
        share = (score - highest[owner]).exp()
        return share / share.new_zeros(bags).index_add(0, owner, share)[owner]

    def forward(self, instances: Tensor, owner: Tensor, bags: int) -> Tensor:
        """Embeddings ``(bags, D)``; that of an empty bag is 0.

        instances: ``(I, D)`` of all bags. owner: ``(I,)`` long, whose each is. bags: how many there are.
        """
        share = self.weights(instances, owner, bags)
        return instances.new_zeros(bags, instances.shape[1]).index_add(0, owner, share[:, None] * instances)


class BagEncoder(Encoder):
    """An encoder of instances and the attention that makes one embedding of a bag; its items are lists of instances.

    width, gated: of the `BagAttention`. labels: names of the classes of a head on top, if there is one.

    >>> encoder.encode([[patch1, patch2], [patch3]])   # doctest: +SKIP
    """

    kind: ClassVar[str] = "bags"

    def __init__(self, encoder: Encoder, *, width: int = 128, gated: bool = True, labels: Sequence[str] = ()) -> None:
        super().__init__()
        self.encoder, self.width, self.labels, self.dim = encoder, width, tuple(labels), encoder.dim
        self.attention = BagAttention(encoder.dim, width, gated=gated)
        self.classifier = nn.Linear(encoder.dim, len(self.labels)) if self.labels else None

    @classmethod
    def example(cls, seed: int = 0) -> Self:
        inner = Vectors.example(seed)
        with seeded(seed):
            return cls(inner, width=4)

    def traced(self) -> Traced:
        raise ModelError(
            "An encoder of bags has no ONNX form: bags have any number of instances. Load its folder with "
            "counterpoint.encoders.folder.load, or export the encoder of its instances (`.encoder`)."
        )

    @property
    def modality(self) -> str:  # type: ignore[override]  # that of the instances
        return self.encoder.modality

    @property
    def device(self) -> torch.device:
        return self.attention.look.weight.device

    @property
    def config(self) -> BagConfig:  # type: ignore[override]
        return BagConfig(
            width=self.width, gated=self.attention.gate is not None, labels=self.labels, kind=self.encoder.kind,
            inner=asdict(self.encoder.config),
        )  # fmt: skip

    def is_one(self, items: Any) -> bool:
        """A list (or an array) of instances."""
        held = isinstance(items, list | tuple | np.ndarray | Tensor) and len(items) > 0
        return super().is_one(items) or (held and self.encoder.is_one(items[0]))

    def lengths(self, items: Sequence[Any]) -> np.ndarray:
        """Cost of each bag: of its instances together."""
        check(items)
        return np.array([self.encoder.lengths(bag).sum() for bag in items], dtype=np.int64)

    def collate(self, items: Sequence[Any], role: str | None = None) -> Whole:
        """Bags to one `Whole`: ``count`` (N,), and what the encoder of instances eats, bag after bag."""
        check(items)
        try:
            data = self.encoder.collate([x for bag in items for x in bag], role)
        except ItemError as error:
            raise _of_bag(items, error) from error
        held = {"instances": data} if isinstance(data, Tensor) else dict(data)
        return Whole({"count": torch.tensor([len(bag) for bag in items]), **held})

    def forward(self, data: Data) -> Tensor:
        """Embeddings ``(N, D)`` of bags."""
        return self.attention(*self._instances(data))  # type: ignore[no-any-return]

    def _instances(self, data: Data) -> tuple[Tensor, Tensor, int]:
        assert isinstance(data, Whole)
        held: dict[str, Tensor] = {k: v for k, v in data.items() if k != "count"}
        count = data["count"]
        owner = torch.arange(len(count), device=count.device).repeat_interleave(count)
        return self.encoder(held.get("instances", held)), owner, len(count)

    def attend(self, items: Sequence[Any]) -> list[np.ndarray]:
        """How much each instance of each bag counts, ``(n_i,)`` float32 that sum to 1: what a heat map shows."""
        with self.evaluating():
            instances, owner, n = self._instances(move(self.collate(items), self.device))
            share = self.attention.weights(instances, owner, n)
        return [x.cpu().numpy() for x in share.split([len(bag) for bag in items])]

    def classify(self, items: Sequence[Any]) -> np.ndarray:
        """Probabilities ``(N, C)`` of the classes ``labels``."""
        if self.classifier is None:
            raise ModelError("This encoder of bags was trained without labels: it has no classifier.")
        with self.evaluating():
            logits: Tensor = self.classifier(self(move(self.collate(items), self.device)))
            return logits.softmax(-1).cpu().numpy()

    def write(self, folder: Path) -> list[Stage]:
        inner = folder / "instances"
        inner.mkdir()
        self.encoder.write(inner)
        own = {k: v for k, v in self.state_dict().items() if not k.startswith("encoder.")}
        write_weights(folder / "bags.safetensors", own)
        return []

    @classmethod
    def read(cls, folder: Path, config: Mapping[str, Any]) -> Self:
        inner = find(config["kind"]).read(folder / "instances", config["inner"])
        encoder = cls(inner, width=config["width"], gated=config["gated"], labels=config["labels"])
        missing, unexpected = encoder.load_state_dict(read_weights(folder / "bags.safetensors"), strict=False)
        if unexpected or any(not name.startswith("encoder.") for name in missing):
            raise ModelError(f"The weights in {folder} do not fit its configuration. Save the model again.")
        return encoder


def _of_bag(bags: Sequence[Any], error: ItemError) -> ItemError:
    """The error of one of all instances as that of the bag that it is in."""
    place = error.place
    for i, bag in enumerate(bags):
        if place < len(bag):
            return ItemError(f"Bag {{place}} of {{of}}: {error.at(place, len(bag))}", i, len(bags))
        place -= len(bag)
    return error


def check(bags: Sequence[Any]) -> None:
    """Refuse what is no list of instances, and bags without any."""
    for i, bag in enumerate(bags):
        if isinstance(bag, str | bytes | Mapping) or not isinstance(bag, Sequence | np.ndarray):
            said = f"Item {{place}} is a {type(bag).__name__}; an encoder of bags takes lists of instances."
            raise ItemError(said, i, len(bags))
        if len(bag) == 0:
            raise ItemError("Bag {place} of {of} is empty. Leave it out: there is nothing to see in it.", i, len(bags))
