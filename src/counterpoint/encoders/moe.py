"""Upcycling: the perceptrons of a trained text encoder become copies, experts, of which each text uses its own.

Attention, embeddings and norms stay shared. The copies begin alike, so that at first every routing gives what the
encoder gave before. Which experts a text uses is enforced by its domain, or chosen by a router for each token or for
the whole text.

Sources: Komatsuzaki et al. 2022 (sparse upcycling), arXiv 2212.05055; Hallee et al. 2024, arXiv 2401.15713 (enforced
routing and domain tokens); Shazeer et al. 2017 (top-k routing), arXiv 1701.06538.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Data, size
from counterpoint.encoders import pretrained
from counterpoint.encoders.base import Encoder, Traced, find, fitted, seeded
from counterpoint.encoders.experts import Experts, Passage, enter, means, passage, perceptrons
from counterpoint.encoders.layout import Stage, revive, write_weights
from counterpoint.encoders.residual import ResidualText
from counterpoint.encoders.subwords import TextEncoder
from counterpoint.encoders.text import PASS, TextTransformer, in_order
from counterpoint.encoders.wrapper import Around
from counterpoint.errors import ConfigError, DataError, ItemError, ModelError


@dataclass(frozen=True, kw_only=True)
class UpcycledConfig:
    """kind, inner: the encoder below and its configuration. domains: their names. experts: copies of each perceptron
    (0: one for each domain). layers: ``all`` perceptrons are copied, or the ``middle`` one. routing: ``domain`` (each
    text to the expert of its domain), ``token`` or ``text`` (to the ``top`` experts that a router chooses). token:
    whether each domain has a learned token in the first place of its texts. unknown: of a text without a domain,
    experts and tokens are mixed as a classifier of its words would ``guess`` the domain, or are the ``average`` of all.
    """

    kind: str = ""
    inner: dict[str, Any] = field(default_factory=dict)
    domains: tuple[str, ...] = ()
    experts: int = 0
    layers: Literal["all", "middle"] = "all"
    routing: Literal["domain", "token", "text"] = "domain"
    top: int = 2
    token: bool = True
    unknown: Literal["guess", "average"] = "guess"

    def __post_init__(self) -> None:
        for name, known in (
            ("layers", ("all", "middle")),
            ("routing", ("domain", "token", "text")),
            ("unknown", ("guess", "average")),
        ):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name}={getattr(self, name)!r}: type {name}={f' or {name}='.join(known)}.")
        if not self.domains or len(set(self.domains)) < len(self.domains):
            raise ConfigError(f"domains={self.domains}: give the name of every domain, each once.")
        if self.routing == "domain" and self.experts not in (0, 1, len(self.domains)):
            raise ConfigError(
                f"experts={self.experts}: where the domain names the expert there are as many as domains "
                f"({len(self.domains)}), or 1, which all share. Type routing=text or routing=token for other numbers."
            )
        if self.routing != "domain" and not 1 <= self.top <= self.count:
            raise ConfigError(f"top={self.top}: of {self.count} experts a text can use 1 to {self.count}.")

    @property
    def count(self) -> int:
        """Experts, E."""
        return self.experts or len(self.domains)


# --- the encoder -----------------------------------------------------------------------------------------------------


class Upcycled(Around):
    """A text encoder with experts in place of its perceptrons.

    The domain of a text is given beside it, ``(text, "physics")``, or for all texts by ``encode(texts,
    role="physics")``; texts of no known domain get a mixture, see `UpcycledConfig`. Takes over (and changes) the
    encoder: a `TextTransformer` whose layers hold perceptrons that can be found, or a `ResidualText`.

    >>> Upcycled(encoder, UpcycledConfig(domains=("law", "news"))).encode([("a claim", "law")])   # doctest: +SKIP
    """

    kind: ClassVar[str] = "upcycled-text"
    encoder: TextTransformer | ResidualText

    def __init__(self, encoder: Encoder, config: UpcycledConfig) -> None:
        super().__init__()
        if not isinstance(encoder, TextTransformer | ResidualText):
            raise ConfigError(
                f"Experts are copies of perceptrons, and {type(encoder).__name__} has none. Give a transformer "
                "(--encoder transformer, or a folder or hub id), or a ResidualText."
            )
        self._surround(encoder)
        self.settings, self.dim = config, encoder.dim
        self.also: Tensor | None = None  # see `Passage`; set by who trains in several processes
        found = perceptrons(encoder)
        for site in [found[len(found) // 2]] if config.layers == "middle" else found:
            experts = Experts(
                site.dense,
                config.count,
                router=0 if config.routing == "domain" else self._width,
                top=config.top,
                by=config.routing,
            )
            site.put(experts)
        domains = len(config.domains)
        if isinstance(encoder, TextTransformer):
            encoder.transformer.register_forward_pre_hook(enter, with_kwargs=True)
        self.tokens_of = nn.Parameter(self._first().repeat(domains, 1)) if config.token else None
        asks = config.token or (config.routing == "domain" and config.count > 1)
        self.guess = nn.Linear(self._width, domains) if asks and config.unknown == "guess" and domains > 1 else None
        if self.guess is not None:  # at first it knows nothing
            nn.init.zeros_(self.guess.weight)
            nn.init.zeros_(self.guess.bias)

    @classmethod
    def example(cls, seed: int = 0) -> Self:
        inner = TextTransformer.example(seed)
        with seeded(seed):
            return cls(inner, UpcycledConfig(domains=("law", "news")))

    def traced(self) -> Traced:
        raise ModelError(
            "An encoder with experts has no ONNX form: which of them reads a text is decided while it is read. Load "
            "its folder with counterpoint.encoders.folder.load instead."
        )

    @property
    def _width(self) -> int:
        if isinstance(self.encoder, ResidualText):
            return self.encoder.dim
        return int(_table(self.encoder).shape[1])

    def _first(self) -> Tensor:
        """What a domain's token begins as, ``(1, W)``: the embedding of what stood in the first place; for a mean of
        words, which has no places, something that is added, so 0."""
        if isinstance(self.encoder, ResidualText):
            return torch.zeros(1, self._width)
        if not self.encoder._before:
            raise ConfigError("This tokenizer puts no token before a text that a domain's could replace: token=False.")
        return _table(self.encoder).detach()[self.encoder._before[0]].clone().unsqueeze(0)

    # --- what is asked of every encoder ----------------------------------------------------------------------------

    @property
    def config(self) -> UpcycledConfig:  # type: ignore[override]
        return UpcycledConfig(
            **{**self.settings.__dict__, "kind": self.encoder.kind, "inner": asdict(self.encoder.config)}
        )

    @property
    def domains(self) -> tuple[str, ...]:  # type: ignore[override]
        """The roles that have experts of their own."""
        return self.settings.domains

    def collate(self, items: Sequence[Any], role: str | None = None) -> dict[str, Tensor]:
        """Texts, or (text, domain) with the domain's name or number, None: unknown. role: a domain, for all texts that
        do not say theirs; or whose prompt is put before each text. With ``domain`` ``(N, 1)``, -1: unknown."""
        self.check_role(role)
        names = self.settings.domains
        told = role if role in names else None
        pairs = [item if isinstance(item, tuple) else (item, told) for item in items]
        data = self.encoder.collate([text for text, _ in pairs], None if told else role)
        numbers = torch.tensor([self.number(domain) for _, domain in pairs], dtype=torch.long)
        return {**data, "domain": numbers.unsqueeze(1)}

    def check_role(self, role: str | None) -> None:
        try:
            super().check_role(role)
        except ConfigError as error:
            raise DataError(f"There is no domain or prompt {role!r}. {error}") from error

    def is_one(self, items: Any) -> bool:
        """A text, or a tuple of one with its domain."""
        paired = isinstance(items, tuple) and len(items) == 2 and isinstance(items[0], str)
        return super().is_one(items) or (paired and (not isinstance(items[1], str) or items[1] in self.domains))

    def check(self, items: Sequence[Any]) -> None:
        for place, item in enumerate(items):
            if isinstance(item, tuple) and len(item) != 2:
                raise ItemError(
                    f"Item {{place}} is a tuple of {len(item)}: expected (text, domain).", place, len(items)
                )
        self.encoder.check([item[0] if isinstance(item, tuple) else item for item in items])

    def number(self, domain: str | int | None) -> int:
        """The number of a domain; -1: unknown. `DataError` for one that is not there."""
        names = self.settings.domains
        if domain is None or (isinstance(domain, str) and domain in names):
            return -1 if domain is None else names.index(domain)
        if isinstance(domain, str) or not 0 <= int(domain) < len(names):
            raise DataError(
                f"There is no domain {domain!r}; there are {', '.join(names)} (0 to {len(names) - 1}). Give None for a "
                "text whose domain is not known."
            )
        return int(domain)

    def lengths(self, items: Sequence[Any]) -> np.ndarray:
        return self.encoder.lengths([item[0] if isinstance(item, tuple) else item for item in items])

    def _batches(self, items: Sequence[Any], role: str | None, budget: int) -> Iterator[tuple[np.ndarray, Data]]:
        most = PASS.get(self.device.type, budget) if isinstance(self.encoder, TextTransformer) else budget
        return TextEncoder._batches(self, items, role, min(budget, most))  # type: ignore[arg-type]

    def forward(self, data: Data) -> Tensor:
        with self._passing(data) as passing:
            return self._embedded(data, passing)

    def tokens(self, data: Data) -> tuple[Tensor, Tensor]:
        with self._passing(data):
            return self.encoder.tokens(data)

    def hidden_states(self, data: Data) -> list[Tensor]:
        """As `TextTransformer.hidden_states`.

        data: as `collate` gives it.
        """
        if not isinstance(self.encoder, TextTransformer):
            raise ConfigError(f"{type(self.encoder).__name__} has no layers of hidden states.")
        with self._passing(data):
            return self.encoder.hidden_states(data)

    # --- what routers say ------------------------------------------------------------------------------------------

    def judged(self, data: Data) -> tuple[Tensor, list[Tensor]]:
        """Embeddings ``(N, D)``, and what was decided: where domains are guessed, the logits ``(N, G)``; where routers
        choose, means over the tokens and layers of logits, of probabilities, and of choices, ``(N, E)`` each.

        data: as `collate` gives it.
        """
        with self._passing(data) as passing:
            z = self._embedded(data, passing)
            said = [] if self.guess is None else [self._guessed(data)]
            if passing.said:
                logits, chosen = (torch.cat([getattr(s, what) for s in passing.said]) for what in ("logits", "chosen"))
                owner = torch.cat([s.owner for s in passing.said])
                said += [means(x, owner, size(data)) for x in (logits, logits.softmax(-1), chosen)]
            return z, said

    def _embedded(self, data: Data, passing: Passage) -> Tensor:
        if isinstance(self.encoder, ResidualText):
            z = self.encoder.pooled(data)
            return self.encoder.deepened(z if passing.first is None else z + passing.first)
        return self.encoder(data)  # type: ignore[no-any-return]

    def _guessed(self, data: Data) -> Tensor:
        """Logits of the domains ``(N, G)``, from the words alone; the words do not learn from it."""
        assert self.guess is not None
        assert not isinstance(data, Tensor)
        with torch.no_grad():
            if isinstance(self.encoder, ResidualText):
                words = self.encoder.pooled(data)
            else:
                mask = data["attention_mask"].unsqueeze(-1)
                each = self.encoder.transformer.get_input_embeddings()(data["input_ids"])
                words = (each * mask).sum(1) / mask.sum(1).clamp(min=1)
            # At unit length: embeddings may be tiny, and their classifier would learn as slowly.
            words = F.normalize(words, dim=-1) * self._width**0.5
        return self.guess(words)  # type: ignore[no-any-return]

    @contextmanager
    def _passing(self, data: Data) -> Iterator[Passage]:
        assert not isinstance(data, Tensor)
        n, device = size(data), self.device
        domain = data["domain"].squeeze(1) if "domain" in data else torch.full((n,), -1, device=device)
        shares = self._shares(data, domain)
        weights = None
        if self.settings.routing == "domain":
            weights = shares if self.settings.count > 1 else shares.new_ones(n, 1)
        first = None if self.tokens_of is None else shares.to(self.tokens_of) @ self.tokens_of
        rows = torch.arange(n, device=device)
        order = rows if isinstance(self.encoder, ResidualText) else in_order(data["attention_mask"].bool())[1]
        token = passage.set(passing := Passage(n, weights, first, order, rows, also=self.also))
        try:
            yield passing
        finally:
            passage.reset(token)

    def _shares(self, data: Data, domain: Tensor) -> Tensor:
        """How much of each domain is in each text, ``(N, G)``, rows summing to 1."""
        count = len(self.settings.domains)
        if len(domain) and not bool(((domain >= -1) & (domain < count)).all()):
            raise DataError(
                f"Domains are numbered 0 to {count - 1}, -1: unknown; {domain.unique().tolist()} were given."
            )
        known = F.one_hot(domain.clamp(min=0), count).to(next(self.parameters()).dtype)
        unknown = (domain < 0).unsqueeze(1)
        if not bool(unknown.any()):
            return known
        guessed = torch.full_like(known, 1 / count) if self.guess is None else self._guessed(data).softmax(-1)
        return torch.where(unknown, guessed.to(known.dtype), known)

    # --- on disk ---------------------------------------------------------------------------------------------------

    def write(self, folder: Path) -> list[Stage]:
        """Weights and tokenizer; sentence-transformers has no experts, so Counterpoint alone reads it."""
        self.encoder.tokenizer.save_pretrained(folder)
        write_weights(folder / "model.safetensors", self.state_dict())
        return []

    @classmethod
    def read(cls, folder: Path, config: Mapping[str, Any]) -> Self:
        settings: UpcycledConfig = revive(UpcycledConfig, config)
        kind = find(settings.kind)
        inner = revive(get_type_hints(kind)["config"], settings.inner)
        base = kind(inner, pretrained.tokenizer(folder))  # type: ignore[call-arg]  # a text encoder's
        return fitted(cls(base, settings), folder)


def _table(encoder: TextTransformer) -> Tensor:
    """Embeddings of the subwords, ``(V, W)``."""
    table: Tensor = encoder.transformer.get_input_embeddings().weight  # type: ignore[assignment]
    return table


class Judged(nn.Module):
    """`Upcycled.judged` as one tensor, which gradient caching can cut: embeddings, then what was decided.

    encoder: with experts.
    """

    def __init__(self, encoder: Upcycled) -> None:
        super().__init__()
        self.encoder = encoder

    @property
    def widths(self) -> list[int]:
        """Of the parts, in order."""
        settings = self.encoder.settings
        guessed = [] if self.encoder.guess is None else [len(settings.domains)]
        return [self.encoder.dim, *guessed, *([settings.count] * 3 if settings.routing != "domain" else [])]

    def forward(self, data: Data) -> Tensor:
        """Side by side, ``(N, D + ...)``, what the encoder makes of ``data`` as its `collate` gives it."""
        z, said = self.encoder.judged(data)
        return torch.cat([z, *said], 1)
