"""CLIP's causal text transformer, entered after the token table: one implementation for every adapter.

In: input token embeddings (B, T, D), start-of-text and end-of-text rows included. Out: unnormalized
text latents (B, E). The mask is causal, so nothing after the end-of-text position is run; and only
that position is pooled, so the last layer runs its queries there alone. A prefix that many prompts
share can be run once and kept as keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invert.models.linear import FrozenLinear


def quick_gelu(x: Tensor) -> Tensor:
    """OpenAI's approximation: x · σ(1.702 x)."""
    return x * torch.sigmoid(1.702 * x)


class Layer:
    """One pre-norm block; open_clip's and transformers' weights both fit in."""

    def __init__(
        self,
        norms: tuple[nn.LayerNorm, nn.LayerNorm],
        attention: tuple[Tensor, Tensor, Tensor, Tensor],
        mlp: tuple[nn.Linear, nn.Linear],
        heads: int,
        activation: Callable[[Tensor], Tensor],
        scales: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]] = (nn.Identity(), nn.Identity()),
    ) -> None:
        """attention: fused in-projection weight (3D, D) and bias (3D,), out-projection weight (D, D) and bias (D,)."""
        self.norm_1, self.norm_2 = norms
        weight, bias, out_weight, out_bias = attention
        width = weight.shape[1]
        self.query = FrozenLinear(weight[:width], bias[:width])
        self.key_value = FrozenLinear(weight[width:], bias[width:])
        self.out = FrozenLinear(out_weight, out_bias)
        self.fc1, self.fc2 = (FrozenLinear(linear.weight, linear.bias) for linear in mlp)
        self.heads, self.activation = heads, activation
        self.scale_1, self.scale_2 = scales

    def keys_values(self, normed: Tensor) -> tuple[Tensor, Tensor]:
        """Normed x (B, T, D) → keys and values (B, H, T, D/H)."""
        k, v = self.key_value(normed).chunk(2, -1)
        return self.split(k), self.split(v)

    def split(self, x: Tensor) -> Tensor:
        """(B, T, D) → (B, H, T, D/H)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def __call__(self, x: Tensor, k: Tensor, v: Tensor, normed: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """x: the residual stream at the query positions (B, Q, D), normed the same after norm_1."""
        attn_out = F.scaled_dot_product_attention(self.split(self.query(normed)), k, v, attn_mask=mask, is_causal=causal)
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
            normed = block.norm_1(x)
            x = block(x, *block.keys_values(normed), normed, None, True)
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
                x = block(x, k, v, normed, None, True)
        return PrefixCache(tuple(keys), tuple(values), x.shape[1])

    def encode_with_prefix(self, cache: PrefixCache, e: Tensor, eot: Tensor | None = None) -> Tensor:
        """As `encode` of the prefix followed by e (B, T, D); eot (B,) counts within e. Differentiable in e."""
        return self._run(e, eot, cache)

    def _run(self, e: Tensor, eot: Tensor | None, cache: PrefixCache | None) -> Tensor:
        length = e.shape[1] if eot is None else int(eot.max()) + 1
        if eot is None:
            eot = torch.full((len(e),), length - 1, device=e.device)
        start = cache.length if cache else 0
        x = e[:, :length] + self._positions(start, length)
        batch_index = torch.arange(len(e), device=e.device)
        # (length, start + length): a new position sees the whole prefix and what precedes it.
        mask = torch.ones(length, start + length, dtype=torch.bool, device=e.device).tril(start) if cache else None
        for i, block in enumerate(self.layers):
            normed = block.norm_1(x)
            k, v = block.keys_values(normed)
            if cache:
                k = torch.cat([cache.keys[i].expand(len(e), -1, -1, -1), k], 2)
                v = torch.cat([cache.values[i].expand(len(e), -1, -1, -1), v], 2)
            if i + 1 < len(self.layers):
                x = block(x, k, v, normed, mask, cache is None)
                continue
            visible = (torch.arange(start + length, device=e.device) <= start + eot[:, None])[:, None, None]
            x = block(x[batch_index, eot][:, None], k, v, normed[batch_index, eot][:, None], visible, False)
        return self.projection(self.final_norm(x[:, 0]))

    def _positions(self, start: int, length: int) -> Tensor:
        if start + length > len(self.positions):
            raise ValueError(f"{start + length} positions do not fit the model's context of {len(self.positions)}")
        return self.positions[start : start + length]
