"""The layer of a transformer, pre-norm: attention among the items of a row, perhaps to those of another, perceptron."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.errors import ConfigError


class Attention(nn.Module):
    """Attention of ``(N, T, dim)`` to ``(N, S, dim)`` with several heads.

    >>> import torch
    >>> Attention(16, 4)(torch.randn(2, 5, 16), torch.randn(2, 7, 16)).shape
    torch.Size([2, 5, 16])
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ConfigError(f"dim={dim} cannot be shared by {heads} heads. Give a multiple of the heads.")
        self.heads = heads
        self.query, self.key_value = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim, bias=False)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, to: Tensor, seen: Tensor | None = None) -> Tensor:
        """seen: (N, T, S) bool, True where item t may look at item s; None: everywhere.

        x: ``(N, T, D)``, those that look. to: ``(N, S, D)``, what they look at. Returns ``(N, T, D)``.
        """
        q, k, v = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # N, heads, T, width
            for y in (self.query(x), *self.key_value(to).chunk(2, -1))
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=None if seen is None else seen.unsqueeze(1))
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """``x += attention(norm x)``, ``x += attention(norm x, other)`` where it crosses, ``x += perceptron(norm x)``.

    dim: D. heads: of the attention. mlp: width of the perceptron as a multiple of D. cross: whether it looks at another
    sequence too.

    >>> import torch
    >>> Block(16, 4, cross=True)(torch.randn(2, 5, 16), other=torch.randn(2, 7, 16)).shape
    torch.Size([2, 5, 16])
    """

    def __init__(self, dim: int, heads: int, *, mlp: float = 4.0, cross: bool = False) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(dim), Attention(dim, heads)
        self.cross_norm = nn.LayerNorm(dim) if cross else None
        self.cross = Attention(dim, heads) if cross else None
        wide = int(mlp * dim)
        self.perceptron = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, wide), nn.GELU(), nn.Linear(wide, dim))

    def forward(
        self, x: Tensor, *, seen: Tensor | None = None, other: Tensor | None = None, across: Tensor | None = None
    ) -> Tensor:
        """x: (N, T, dim). seen: (N, T, T) bool. other: (N, S, dim), what the block looks across to. across: (N, T, S)
        bool, which of it."""
        y = self.norm(x)
        x = x + self.attention(y, y, seen)
        if self.cross is not None and self.cross_norm is not None:
            assert other is not None
            x = x + self.cross(self.cross_norm(x), other, across)
        out: Tensor = x + self.perceptron(x)
        return out


def small_weights(module: nn.Module) -> None:
    """Linear maps and embeddings drawn from N(0, 0.02²), biases 0, as transformers usually begin.

    module: one part of a model, for ``apply``.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Embedding):
            nn.init.normal_(layer.weight, std=0.02)
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
