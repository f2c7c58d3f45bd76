"""An encoder whose tokens are pooled otherwise: the same weights, another embedding."""

from __future__ import annotations

from counterpoint.encoders.base import Encoder
from counterpoint.encoders.pooling import check
from counterpoint.encoders.subwords import TEMPLATE, check_template
from counterpoint.encoders.text import TextTransformer
from counterpoint.errors import ConfigError


def pooled(encoder: Encoder, pooling: str, *, template: str = TEMPLATE) -> Encoder:
    """A transformer with this pooling of its tokens, which shares the weights; '': the encoder as it is.

    pooling: cls, mean, ..., or ``prompt``, the state at the mask token of ``template``. Raises `ConfigError` for an
    encoder that has no tokens to pool.
    """
    if not pooling:
        return encoder
    if not isinstance(encoder, TextTransformer):
        raise ConfigError(
            f"pooling={pooling} is about the tokens of a transformer, and a {type(encoder).__name__} is none. Add "
            "--encoder transformer, or name a model folder or hub id; or leave it out."
        )
    return encoder.pooled_by(pooling, template=template)


def check_pooled(*poolings: str, template: str = TEMPLATE) -> None:
    """Refuse what `pooled` does not know, before there is an encoder.

    poolings: that are asked for. template: of pooling=prompt.
    """
    for pooling in filter(None, poolings):
        check(pooling, also=("prompt",))
    check_template(template)
