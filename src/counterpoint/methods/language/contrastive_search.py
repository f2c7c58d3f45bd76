"""Contrastive search, with SimCTG: a language model whose texts neither loop nor drift.

Su and Collier 2023, "Contrastive Search Is What You Need For Neural Text Generation", TMLR, arXiv 2210.14140; the loss:
Su et al. 2022, "A Contrastive Framework for Neural Text Generation" (SimCTG), NeurIPS, arXiv 2202.06417.

For whoever lets a language model write, and sees loops (greedy decoding, beam search) or drifting (sampling). The model
is trained to predict the next token, while the states of different tokens of one text are pushed apart; the search,
`counterpoint.decode.search`, then takes a probable token whose state is unlike all before it.

    loss = token_nll + token_margin
    token_nll = -mean over tokens of log p(x_t | x_<t)
    token_margin = mean over pairs i != j of max(0, margin - cos(h_i, h_i) + cos(h_i, h_j)),   h: last states

``margin=0`` is ordinary training, the ablation; whether the search needs SimCTG is a matter of the model's isotropy
(`counterpoint.evaluate.language.isotropy`): most models are isotropic as they are. ``weight`` says whether sequences
(the paper) or pairs of tokens (its code) count alike. Texts are read one by one, of long ones a random window per step,
where the paper cuts one stream of tokens.

Published: margin 0.5; GPT-2 small on WikiText-103, 256 tokens, batch 128, AdamW 2e-5, 10 % warm-up, linear decay,
40,000 steps; then k 8, alpha 0.6 for 128 new tokens behind 32. GPT-2 large off the shelf: k 5, alpha 0.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from counterpoint.data.batch import Batch, Data, View
from counterpoint.data.schema import Row
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.causal import CausalLM, CausalLMConfig
from counterpoint.encoders.pooling import pool
from counterpoint.errors import ConfigError
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.objectives.reduce import at_least_float32, no_autocast, weighted
from counterpoint.objectives.tokens import Weight, token_margin, token_nll
from counterpoint.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Config:
    """margin: how far apart states are pushed, 1 - cosine (0: not at all). weight: what counts alike in that loss,
    sequences or pairs of tokens."""

    margin: float = 0.5
    weight: Weight = "sequences"

    def __post_init__(self) -> None:
        if not 0 <= self.margin <= 2:
            raise ConfigError(f"margin={self.margin}: cosines differ by at most 2; give 0 (ordinary training) to 2.")
        if self.weight not in ("sequences", "pairs"):
            raise ConfigError(f"weight={self.weight!r}: type weight=sequences or weight=pairs.")


class Reader(nn.Module):
    """What a step needs of each text, as one row, so that a batch can be computed in parts: its mean losses, and the
    means of the states of its two halves. ``(N, 2 + 2 D)``. encoder: the model. margin: of the token margin (0: not
    computed)."""

    def __init__(self, encoder: CausalLM, margin: float) -> None:
        super().__init__()
        self.encoder, self.margin = encoder, margin

    def forward(self, data: Data) -> Tensor:
        """One row for each text of ``data``, as `collate` gives it, ``(N, 2 + 2 D)``."""
        assert not isinstance(data, Tensor)
        ids, mask = data["input_ids"], data["attention_mask"].bool()
        logits, states = self.encoder.predictions(data)
        with no_autocast(states):
            logits, states = at_least_float32(logits[:, :-1]), at_least_float32(states)
            nll = token_nll(logits, ids[:, 1:], mask=mask[:, 1:], reduction="none")
            apart = torch.zeros_like(nll)
            if self.margin:
                apart = token_margin(states, mask=mask, margin=self.margin, reduction="none")
            late = mask.cumsum(1) * 2 > mask.sum(1, keepdim=True)
            halves = [pool(states.detach(), mask & part) for part in (~late, late)]
        return torch.cat([nll.unsqueeze(1), apart.unsqueeze(1), *halves], 1)


@method(
    "contrastive-search",
    title="Contrastive search with SimCTG: a language model that neither loops nor drifts",
    paper="arXiv 2210.14140",
    year=2023,
    modalities=("text",),
    needs=("texts",),
)
class ContrastiveSearch(Method):
    """The next token is predicted; states of different tokens of a text are pushed apart."""

    Config = Config
    encoder: CausalLM
    reader: Reader

    def __init__(self, encoder: Encoder, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        if not isinstance(encoder, CausalLM):
            raise ConfigError(
                f"contrastive-search trains a causal language model, and this is a {type(encoder).__name__}. Leave "
                "--encoder out, or name the folder or hub id of a causal language model, such as GPT-2."
            )
        # One for all steps, as a memory budget is measured once for each; not as a module, which would hold the
        # encoder's weights a second time.
        self.__dict__["reader"] = Reader(encoder, self.config.margin)

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        data = self.encoder.windows([r["text"] for r in rows], rng)
        return Batch((View(data, self.encoder.modality),), torch.tensor([r["row"] for r in rows]))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        view, c = batch.one("anchor"), self.config
        assert not isinstance(view.data, Tensor)
        found = self.embed(self.reader, view)
        (nll, apart), (first, second) = found[:, :2].unbind(1), found[:, 2:].chunk(2, 1)
        self.observe(anchor=first, positive=second)
        tokens = view.data["attention_mask"].sum(1)
        losses = {"next token": weighted(nll, tokens - 1)}
        if c.margin:
            pairs = tokens * (tokens - 1)
            losses["margin"] = weighted(apart, pairs if c.weight == "pairs" else pairs > 0)
        return losses

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        """``small``: 4 layers, 128 wide, from random weights; on two cores a step takes about a tenth of a second."""
        if size == "published":
            train = TrainConfig(batch=128, steps=40_000, lr=2e-5, warmup=0.1, schedule="linear", stop_on_collapse=False)
            return Recipe(config=Config(), encoder=CausalLMConfig(), train=train)
        small = size == "small"
        encoder = CausalLMConfig(
            layers=4 if small else 2,
            width=128 if small else 32,
            heads=4 if small else 2,
            max_length=128 if small else 64,
            vocabulary=4000 if small else 500,
            dropout=0.1 if small else 0.0,
        )
        train = TrainConfig(
            batch=32 if small else 16, epochs=10 if small else 1, lr=2e-3, warmup=0.1, stop_on_collapse=False
        )
        return Recipe(config=Config(), encoder=encoder, train=train)
