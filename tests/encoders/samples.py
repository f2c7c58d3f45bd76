"""Texts of mixed length and small encoders over them."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.encoders.text import TextTransformer, TextTransformerConfig

TEXTS = [
    "the cat sat on the mat",
    "",
    "a dog",
    "in counterpoint two or more voices sound at once, independent in rhythm and in contour, and yet they agree",
    "the dog sat on the cat and the cat sat on the dog and the mat",
    "voices",
    "two dogs and more cats than the mat can hold",
    "a dog",
]


@cache
def _vocabulary() -> Any:
    return TextTransformer.from_texts(TEXTS * 3, TextTransformerConfig(layers=1, width=8, heads=1)).tokenizer


def transformer(seed: int = 0, **settings: Any) -> TextTransformer:
    """Two layers, 32 wide; untrained, but with weights large enough that texts differ."""
    torch.manual_seed(seed)
    defaults = {"layers": 2, "width": 32, "heads": 4, "max_length": 24}
    prompts = settings.pop("prompts", None)
    encoder = TextTransformer(TextTransformerConfig(**(defaults | settings)), _vocabulary(), prompts=prompts)
    with torch.no_grad():
        for p in encoder.parameters():
            if p.ndim > 1:
                p.mul_(5)
    return encoder.eval()


def static(seed: int = 0, **settings: Any) -> StaticText:
    torch.manual_seed(seed)
    config = StaticTextConfig(**({"dim": 16, "max_length": 24} | settings))
    return StaticText.from_texts(TEXTS * 3, config).eval()
