"""Text towers in which every position sees every other: SigLIP, CLIPA, MobileCLIP.

They were trained on rows of one length, so the padding is read as words are: no run may stop at end-of-text, and no
prefix may be shared. Only one position is pooled, so the last layer runs its query there alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from invert.models.tower import Layer, PrefixCache, TextTower

POOLS = ("last", "first", "end")


class BidirectionalTower(TextTower):
    """A frozen text transformer without a causal mask."""

    shares_prefixes = False

    def __init__(
        self,
        table: Tensor,
        positions: Tensor,
        layers: Sequence[Layer],
        final_norm: nn.LayerNorm,
        projection: Callable[[Tensor], Tensor],
        pool: str,
        masks_padding: bool = False,
    ) -> None:
        """As for `TextTower`.

        Args:
            table: (V, D) token rows.
            positions: (P, D).
            layers: the blocks.
            final_norm: after the last block.
            projection: maps the pooled (B, D) to latents (B, E).
            pool: the position that the latent is read from, one of POOLS; "end" is the prompt's last token.
            masks_padding: whether what follows the prompt's last token is kept from the others.
        """
        super().__init__(table, positions, layers, final_norm, projection)
        assert pool in POOLS
        self.pool, self.masks_padding = pool, masks_padding

    def encode(self, e: Tensor, eot: Tensor | None = None) -> Tensor:
        """Embeddings (B, T, D), padding included → latents (B, E).

        eot: (B,) int64, the position of each prompt's last token; None: the row's.
        """
        x, mask = e + self._positions(0, e.shape[1]), self._mask(e, eot)
        for block in self.layers[:-1]:
            x = block(x, *block.queries_keys_values(block.norm_1(x)), mask, False)
        last = self.layers[-1]
        normed = last.norm_1(x)
        k, v = last.keys_values(normed)
        x = last(self._pooled(x, eot), last.queries(self._pooled(normed, eot)), k, v, mask, False)
        return self.projection(self.final_norm(x[:, 0]))

    def hidden(self, e: Tensor, layer: int) -> Tensor:
        """The residual stream (B, T, D) after `layer` blocks (0: embeddings plus positions), nothing masked."""
        x = e + self._positions(0, e.shape[1])
        for block in self.layers[:layer]:
            x = block(x, *block.queries_keys_values(block.norm_1(x)), None, False)
        return x

    def prefix(self, e: Tensor) -> PrefixCache:
        """Never: what follows a prefix changes it.

        Raises:
            ValueError: always.
        """
        raise ValueError("a bidirectional text tower shares no prefix: look at `shares_prefixes`")

    def _mask(self, e: Tensor, eot: Tensor | None) -> Tensor | None:
        """(B, 1, 1, T): the positions that may be seen; None for all."""
        if not self.masks_padding or eot is None:
            return None
        return (torch.arange(e.shape[1], device=e.device) <= eot[:, None])[:, None, None]

    def _pooled(self, x: Tensor, eot: Tensor | None) -> Tensor:
        """(B, T, D) → (B, 1, D)."""
        if self.pool == "first":
            return x[:, :1]
        if self.pool == "last" or eot is None:
            return x[:, -1:]
        return x[torch.arange(len(x), device=x.device), eot][:, None]
