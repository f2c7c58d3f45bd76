"""w2v-BERT: a quantiser that contrast keeps honest, and its codes foretold where frames are hidden, in one run.

Chung et al. 2021, "w2v-BERT: Combining Contrastive Learning and Masked Language Modeling for Self-Supervised Speech
Pre-Training", ASRU 2021, arXiv 2108.06209.

For whoever has much speech (or other sound) without transcripts and little with them. Spans of features are hidden
behind random vectors. The lower blocks must tell the code of a hidden frame from those of other hidden frames of the
same recording; the upper blocks must name it. Naming alone could be made trivial by giving all frames one code;
contrast needs codes that differ.

    e = front(log-mel),   x = e with draws from N(0, noise²) at hidden frames,   c = lower(x),   d = upper(c)
    q_t, k_t = quantiser(e_t)
    s(t, q) = cos(W c_t, U q) / κ
    L_w = mean over hidden t of  -log exp s(t, q_t) / Σ_{q in {q_t} and distractors} exp s(t, q)
    L_d = (G V - Σ_g exp H(p̄_g)) / (G V),   p̄_g the mean of the quantiser's softmax over the hidden frames
    L_m = mean over hidden t of  -log softmax(Z d_t)[k_t]
    L = contrastive L_w + diversity L_d + prediction L_m

Distractors are ``distractors`` other hidden frames of the recording, drawn with replacement (0: all of them, once);
those of the same code are left out. No gradient of L_m reaches the quantiser, unless ``target_grad`` lets it through
the choice of the codes, by which they collapse to one. Ablations: ``contrastive=0``; ``prediction=0`` (contrast then
stands on the last block).

Published (size ``published``, XL): 12 and 12 conformer blocks, 1,024 wide, 8 heads, 0.6 billion weights; V 1,024, G 1,
span 10 begun with probability 0.065, κ 0.1, diversity 0.1, temperature from 2 to 0.1 by 0.999995 each step; 60,000
hours, batch 2,048, Adam 2e-3. Here: weight decay is decoupled and the learning rate goes down by a cosine; recordings
are cut at random to ``seconds``. The small sizes hide five spans of three places and keep the quantiser's gradient from
the front (``front_grad=0``): with it, a few hundred steps spread the features over the codes so that none is foretold.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint import processes
from counterpoint.data.batch import Batch, View
from counterpoint.data.schema import Row
from counterpoint.encoders.audio import AudioTransformer, AudioTransformerConfig
from counterpoint.encoders.quantiser import GumbelQuantiser
from counterpoint.encoders.states import MaskedFrames
from counterpoint.errors import ConfigError, DataError
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.modalities.audio import recording
from counterpoint.objectives.codes import (
    code_contrast,
    code_cross_entropy,
    code_diversity,
    few_codes,
    perplexity,
)
from counterpoint.processes import total, world
from counterpoint.train.config import TrainConfig
from counterpoint.views.audio import crop, span_mask

LOOK = 100
"""Steps between two looks at how many codes are in use."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """split: blocks of the contrastive part; the others foretell. codes, groups, width: V, G and width of the codes'
    vectors. projection: width of the space of contrast. temperature, coldest, cooling: of the choice of codes. kappa:
    temperature of contrast. distractors: of each frame, 0: all. rate, span, least: of the spans that are hidden.
    noise: deviation of the random vectors. seconds: that recordings are cut to. contrastive, diversity, prediction:
    weights of the losses. target_grad: see above. front_grad: share of the quantiser's gradient that the front gets."""

    split: int = 12
    codes: int = 1024
    groups: int = 1
    width: int = 1024
    projection: int = 768
    temperature: float = 2.0
    coldest: float = 0.1
    cooling: float = 0.999995
    kappa: float = 0.1
    distractors: int = 100
    rate: float = 0.065
    span: int = 10
    least: int = 2
    noise: float = 0.1
    seconds: float = 16.0
    contrastive: float = 1.0
    diversity: float = 0.1
    prediction: float = 1.0
    target_grad: bool = False
    front_grad: float = 1.0

    def __post_init__(self) -> None:
        if min(self.contrastive, self.diversity, self.prediction) < 0 or not self.contrastive + self.prediction:
            raise ConfigError(
                f"contrastive={self.contrastive}, diversity={self.diversity}, prediction={self.prediction}: weights "
                "are 0 or more, and one of contrastive and prediction is above 0."
            )
        if not self.kappa > 0 or self.distractors < 0 or not self.seconds > 0:
            raise ConfigError(
                f"kappa={self.kappa}, distractors={self.distractors}, seconds={self.seconds}: expected above 0, 0 or "
                "more, above 0."
            )


@method(
    "w2v-bert",
    title="w2v-BERT: contrast and masked prediction of speech",
    paper="arXiv 2108.06209",
    year=2021,
    modalities=("audio",),
    needs=("items",),
    usual=("items",),
)
class W2vBert(Method):
    """Codes of hidden frames are told apart by the lower blocks and named by the upper ones."""

    Config = Config
    encoder: AudioTransformer

    def __init__(self, encoder: AudioTransformer, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        c = self.config
        if not isinstance(encoder, AudioTransformer):
            raise ConfigError(f"w2v-bert trains an AudioTransformer; {type(encoder).__name__} has no blocks to split.")
        depth = len(encoder.blocks)
        if c.contrastive and c.prediction and not 1 <= c.split < depth:
            raise ConfigError(f"split={c.split}: the encoder has {depth} blocks, of which each part needs one.")
        self.split = c.split if c.contrastive and c.prediction else depth
        self.quantiser = GumbelQuantiser(
            encoder.width, codes=c.codes, out=c.width, groups=c.groups,
            temperature=c.temperature, coldest=c.coldest, cooling=c.cooling,
        )  # fmt: skip
        self.context, self.code = nn.Linear(encoder.dim, c.projection), nn.Linear(c.width, c.projection)
        self.names = nn.Linear(encoder.dim, c.groups * c.codes)
        self._perplexity: Tensor | None = None

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        """The whole of each recording, or a random part of ``seconds``. Beside what the encoder eats: ``hidden``
        ``(N, T')`` bool, of the places after its front."""
        c, stream = self.config, self.encoder.modality
        heard = [crop(recording(r[stream]), rng, seconds=c.seconds) for r in rows]
        data = self.encoder.collate(heard)
        hidden = span_mask(self.encoder.lengths(heard), rng, rate=c.rate, span=c.span, least=c.least)
        if rows and not hidden.any() and world() == 1:
            longest = max(x.seconds for x in heard)
            raise DataError(
                f"No recording of this batch has 3 places, of which 2 could be hidden: the longest takes {longest:.3f} "
                "s. Join short recordings, or leave them out."
            )
        places = self.encoder.places(data["frames"].shape[1])
        data["hidden"] = torch.from_numpy(hidden) if rows else torch.zeros(0, places, dtype=torch.bool)
        return Batch((View(data, stream),), torch.tensor([r["row"] for r in rows]))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        view, c = batch.one("anchor"), self.config
        assert not isinstance(view.data, Tensor)
        hidden: Tensor = view.data["hidden"]
        data = {**view.data, "noise": self._noise(hidden)}
        heard = self.embed(MaskedFrames(self.encoder, self.split, hidden.shape[1]), data)[hidden]
        e, below, above = heard.split([self.encoder.width, self.encoder.dim, self.encoder.dim], 1)
        chosen = self.quantiser(torch.lerp(e.detach(), e, c.front_grad))
        anchors, targets = (F.normalize(z, dim=-1) for z in (self.context(below), self.code(chosen.vectors)))
        self._perplexity = perplexity(chosen.codes, c.codes)
        self.observe(anchor=anchors, positive=targets, code_perplexity=self._perplexity)
        out: dict[str, Tensor] = {}
        if c.contrastive:
            sequence = batch.rows.to(hidden.device).repeat_interleave(hidden.sum(1))
            out["contrast"] = c.contrastive * code_contrast(
                anchors, targets, codes=chosen.codes, size=c.codes, groups=sequence, scale=1 / c.kappa,
                distractors=c.distractors,
            )  # fmt: skip
        if c.diversity:
            out["diversity"] = c.diversity * code_diversity(chosen.logits)
        if c.prediction:
            target = chosen.choice if c.target_grad else chosen.choice.detach()
            names = self.names(above).unflatten(-1, (c.groups, c.codes))
            out["prediction"] = c.prediction * code_cross_entropy(names, target)
        return out

    def _noise(self, hidden: Tensor) -> Tensor:
        """What stands at hidden places, ``(N, T', width)``; the same for a recording whichever process has it."""
        longest = int(total(torch.tensor(hidden.shape[1], device=hidden.device), "max"))
        like = self.context.weight  # drawn where and as weights are
        shape = longest, self.encoder.width
        drawn = processes.drawn(lambda n: like.new_empty(n, *shape).normal_(), len(hidden), like.device)
        return self.config.noise * drawn[:, : hidden.shape[1]]

    def after_step(self, step: int) -> None:
        c = self.config
        self.quantiser.cool()
        if step % LOOK == 0 and self._perplexity is not None and (said := few_codes(self._perplexity, c.codes)):
            warnings.warn(f"After step {step} {said}", stacklevel=2)

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        """``small`` is for speech of short utterances at any rate; a step takes about 0.1 s on two cores."""
        if size == "published":
            encoder = AudioTransformerConfig(dim=1024, depth=24, heads=8, channels=64, kernel=31, layer=18)
            train = TrainConfig(batch=2048, steps=400_000, lr=2e-3, betas=(0.9, 0.98), warmup=0.0625, weight_decay=0.01)
            return Recipe(config=Config(), encoder=encoder, train=train)
        small = size == "small"
        config = Config(
            split=2 if small else 1, codes=64 if small else 16, width=64 if small else 8, projection=64 if small else 8,
            coldest=0.5, cooling=0.997, distractors=0, rate=0.0, span=3, least=5, seconds=4.0, diversity=0.3,
            front_grad=0.0,
        )  # fmt: skip
        encoder = AudioTransformerConfig(
            rate=8000, bands=40 if small else 20, channels=16 if small else 4, blocks="transformer",
            dim=96 if small else 16, depth=4 if small else 2, heads=4 if small else 2,
            layer=3 if small else None,  # the middle of the predicting part
        )  # fmt: skip
        train = TrainConfig(batch=16, epochs=20 if small else 1, lr=1e-3, weight_decay=0.01)
        return Recipe(config=config, encoder=encoder, train=train)
