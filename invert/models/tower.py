"""CLIP's causal text transformer, entered after the token table: one implementation for every adapter.

In: input token embeddings (B, T, D), start-of-text and end-of-text rows included. Out: unnormalized
text latents (B, E). The mask is causal, so nothing after the end-of-text position is run; and only
that position is pooled, so the last layer runs its queries there alone. A prefix that many prompts
share can be run once and kept as keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invert.models.linear import FrozenLinear


def quick_gelu(x: Tensor) -> Tensor:
    """OpenAI's approximation: x · σ(1.702 x)."""
    if x.is_cuda and x.requires_grad and torch.is_grad_enabled():
        return ScaledSilu.apply(x, 1.702)
    return x * torch.sigmoid(1.702 * x)


class ScaledSilu(torch.autograd.Function):
    """x · σ(s x) = silu(s x) / s: its gradient is silu's own at s x, one kernel where autograd runs five."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        scaled = x * scale
        ctx.save_for_backward(scaled)
        return F.silu(scaled).div_(scale)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (scaled,) = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradient, scaled), None


class Layer:
    """One pre-norm block; open_clip's and transformers' weights both fit in."""

    def __init__(
        self,
        norms: tuple[nn.LayerNorm, nn.LayerNorm],
        attention: tuple[Tensor, Tensor, Tensor, Tensor],
        mlp: tuple[Any, Any],
        heads: int,
        activation: Callable[[Tensor], Tensor],
        scales: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]] = (nn.Identity(), nn.Identity()),
    ) -> None:
        """attention: fused in-projection weight (3D, D) and bias (3D,), out-projection weight (D, D) and bias (D,).

        mlp: both with a `weight` (N, K) and a `bias` (N,).
        """
        self.norm_1, self.norm_2 = norms
        weight, bias, out_weight, out_bias = attention
        width = weight.shape[1]
        self.query = FrozenLinear(weight[:width], bias[:width])
        self.key_value = FrozenLinear(weight[width:], bias[width:])
        # A card takes longer to begin a product of a few rows than to compute it: there one stands for both.
        self.query_key_value = FrozenLinear(weight, bias) if weight.is_cuda else None
        self.out = FrozenLinear(out_weight, out_bias)
        self.fc1, self.fc2 = (FrozenLinear(linear.weight, linear.bias) for linear in mlp)
        self.heads, self.activation = heads, activation
        self.scale_1, self.scale_2 = scales

    def queries(self, normed: Tensor) -> Tensor:
        """Normed x (B, Q, D) → queries (B, H, Q, D/H)."""
        return self.split(self.query(normed))

    def keys_values(self, normed: Tensor) -> tuple[Tensor, Tensor]:
        """Normed x (B, T, D) → keys and values (B, H, T, D/H)."""
        k, v = self.key_value(normed).chunk(2, -1)
        return self.split(k), self.split(v)

    def queries_keys_values(self, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normed x (B, T, D) → queries, keys and values (B, H, T, D/H)."""
        if self.query_key_value is None:
            return self.queries(normed), *self.keys_values(normed)
        q, k, v = self.query_key_value(normed).chunk(3, -1)
        return self.split(q), self.split(k), self.split(v)

    def split(self, x: Tensor) -> Tensor:
        """(B, T, D) → (B, H, T, D/H)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def __call__(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """x: the residual stream at the query positions (B, Q, D)."""
        attn_out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        x = x + self.scale_1(self.out(attn_out.transpose(1, 2).flatten(2)))
        return x + self.scale_2(self.fc2(self.activation(self.fc1(self.norm_2(x)))))


@dataclass(frozen=True)
class PrefixCache:
    """Keys and values (1, H, P, D/H) of a shared prefix, one pair a layer."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    length: int


class TextTower:
    """The frozen text transformer.

    table: (V, D) token rows. positions: (P, D). projection: maps the pooled (B, D) to latents (B, E).
    Gradients flow to the input embeddings and to nothing else.
    """

    shares_prefixes = True  # what comes later in a prompt cannot change an earlier position
    passes_per_position = 1  # of `Budget`: the towers that one position runs through
    towers: tuple[TextTower, ...] = ()  # where several are joined: each of them

    def __init__(
        self,
        table: Tensor,
        positions: Tensor,
        layers: Sequence[Layer],
        final_norm: nn.LayerNorm,
        projection: Callable[[Tensor], Tensor],
    ) -> None:
        self.table, self.positions = table.detach(), positions.detach()
        self.layers = tuple(layers)
        self.final_norm, self.projection = final_norm, projection

    @property
    def tables(self) -> tuple[Tensor, ...]:
        """The token rows (V, Dᵢ) of each text encoder; an input embedding is theirs side by side."""
        return (self.table,)

    def joined(self, latents: Sequence[Tensor]) -> Tensor:
        """The latents (B, Eᵢ) of `towers` → those of this tower."""
        raise NotImplementedError

    def held(self) -> AbstractContextManager[TextTower]:
        """The tower, whose layers stay in memory within the context."""
        return nullcontext(self)

    def embed(self, ids: Tensor) -> Tensor:
        """ids (…) int64 → token rows (…, D), without positions."""
        return self.table[ids]

    def encode(self, e: Tensor, eot: Tensor | None = None) -> Tensor:
        """Embeddings (B, T, D) → latents (B, E); eot (B,) int64: index of end-of-text, None for the last."""
        return self._run(e, eot, None)

    def hidden(self, e: Tensor, layer: int) -> Tensor:
        """The residual stream (B, T, D) after `layer` blocks (0: embeddings plus positions)."""
        x = e + self._positions(0, e.shape[1])
        for block in self.layers[:layer]:
            x = block(x, *block.queries_keys_values(block.norm_1(x)), None, True)
        return x

    @torch.no_grad()
    def prefix(self, e: Tensor) -> PrefixCache:
        """Run a shared prefix (P, D) or (1, P, D) once."""
        x = e.reshape(1, -1, e.shape[-1])
        x = x + self._positions(0, x.shape[1])
        keys, values = [], []
        for block in self.layers:
            normed = block.norm_1(x)
            k, v = block.keys_values(normed)
            keys.append(k)
            values.append(v)
            if len(keys) < len(self.layers):
                x = block(x, block.queries(normed), k, v, None, True)
        return PrefixCache(tuple(keys), tuple(values), x.shape[1])

    def encode_with_prefix(self, cache: PrefixCache, e: Tensor, eot: Tensor | None = None) -> Tensor:
        """As `encode` of the prefix followed by e (B, T, D); eot (B,) counts within e. Differentiable in e."""
        return self._run(e, eot, cache)

    def _run(self, e: Tensor, eot: Tensor | None, cache: PrefixCache | None) -> Tensor:
        length = e.shape[1] if eot is None else int(eot.max()) + 1
        start = cache.length if cache else 0
        x = e[:, :length] + self._positions(start, length)
        # (length, start + length): a new position sees the whole prefix and what precedes it.
        mask = torch.ones(length, start + length, dtype=torch.bool, device=e.device).tril(start) if cache else None
        for i, block in enumerate(self.layers[:-1]):
            q, k, v = block.queries_keys_values(block.norm_1(x))
            x = block(x, q, *_after(cache, i, k, v), mask, cache is None)
        last = self.layers[-1]
        normed = last.norm_1(x)
        k, v = _after(cache, len(self.layers) - 1, *last.keys_values(normed))
        if eot is None:
            x = last(x[:, -1:], last.queries(normed[:, -1:]), k, v, None, False)
        else:
            rows = torch.arange(len(e), device=e.device)
            visible = (torch.arange(start + length, device=e.device) <= start + eot[:, None])[:, None, None]
            x = last(x[rows, eot][:, None], last.queries(normed[rows, eot][:, None]), k, v, visible, False)
        return self.projection(self.final_norm(x[:, 0]))

    def _positions(self, start: int, length: int) -> Tensor:
        if start + length > len(self.positions):
            raise ValueError(f"{start + length} positions do not fit the model's context of {len(self.positions)}")
        return self.positions[start : start + length]


def _after(cache: PrefixCache | None, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """A layer's keys and values (B, H, T, D/H) with those of the prefix before them."""
    if cache is None:
        return k, v
    keys, values = (kept[layer].expand(len(k), -1, -1, -1) for kept in (cache.keys, cache.values))
    return torch.cat([keys, k], 2), torch.cat([values, v], 2)
