"""Many prompts at once, and what their beginnings have in common only once.

In: token ids (N, L). Out: unnormalized text latents (N, E). The mask is causal, so a position's state depends on
what precedes it alone: prompts that begin alike, of one picture or of several, are one tree of prefixes. Norms and
products run on its nodes, without padding; only attention sees whole prompts. What a prompt gets does not depend on
who shares the batch: it stands in a row of its own length, rounded up, and no product is so small that a BLAS
would take another way to it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from invert.keys import mixed, powers
from invert.models.tower import Layer, TextTower

ROW_STEP = 8  # positions that rows are rounded up to: few shapes, and sums over a row in one order
LEAST_ROWS = 16  # of a product: MKL computes fewer in another order


def rounded_up(lengths: Tensor) -> Tensor:
    """The positions of the rows that prompts of so many stand in."""
    return (lengths + ROW_STEP - 1) // ROW_STEP * ROW_STEP


@torch.no_grad()
def encode_sharing(tower: TextTower, ids: Tensor, eot: Tensor) -> Tensor:
    """Latents (N, E) of prompts, one by one the same as `tower.encode` gives but for rounding.

    Args:
        tower: the frozen text tower.
        ids: (N, L) int64 on its device, special tokens included; anything after end-of-text.
        eot: (N,) int64, where end-of-text stands.
    """
    if tower.towers:
        return tower.joined([encode_sharing(part, ids, eot) for part in tower.towers])
    with tower.held() as tower:
        tree = PrefixTree(ids, eot)
        x = tower.embed(tree.token_ids) + tower.positions[tree.depths]  # (M, D)
        for block in tower.layers[:-1]:
            normed = block.norm_1(x)
            attended = tree.attend(block, block.query(normed), block.key_value(normed))
            x = _after_attention(block, x, attended)
        last = tower.layers[-1]
        normed, ends = last.norm_1(x), tree.ends
        attended = tree.attend_at_ends(last, last.query(normed[ends]), last.key_value(normed))
        return tower.projection(tower.final_norm(_after_attention(last, x[ends], attended)))[: len(ids)]


def encode_rows(tower: TextTower, e: Tensor, eot: Tensor) -> Tensor:
    """Latents (N, E) of embeddings (N, L, D), differentiable, and as independent of who shares the batch.

    eot: (N,) int64, where end-of-text stands. Every position is run: nothing waits to learn how many there need be.
    """
    if tower.towers:
        parts = zip(tower.towers, e.split([table.shape[1] for table in tower.tables], -1), strict=True)
        return tower.joined([encode_rows(part, own, eot) for part, own in parts])
    n, length = e.shape[:2]
    with tower.held() as tower:
        x = e + tower.positions[:length]
        for block in tower.layers[:-1]:
            x = block(x, *block.queries_keys_values(block.norm_1(x)), None, True)
        last = tower.layers[-1]
        normed, rows = last.norm_1(x), torch.arange(n, device=e.device)
        padded = torch.cat([rows, rows[-1:].expand(max(0, LEAST_ROWS - n))])  # so that no product has fewer rows
        ends = eot[padded]
        q = last.split(last.query(normed[padded, ends])[:n, None])
        k, v = last.keys_values(normed)
        read = read_by_one(q, k, v, torch.arange(length, device=e.device) <= eot[:, None])
        return tower.projection(tower.final_norm(_after_attention(last, x[padded, ends], read[padded])))[:n]


def _after_attention(block: Layer, x: Tensor, attended: Tensor) -> Tensor:
    """A block's second half on rows x (M, D), given what its attention read (M, D)."""
    x = x + block.scale_1(block.out(attended))
    return x + block.scale_2(block.fc2(block.activation(block.fc1(block.norm_2(x)))))


class PrefixTree:
    """The distinct prefixes of prompts whose rows are equally long.

    Attributes:
        token_ids, depths: (M,) int64, the last token of each prefix and its position.
        ends: (N or LEAST_ROWS,) int64, the node of each whole prompt, the last repeated.
    """

    def __init__(self, ids: Tensor, eot: Tensor) -> None:
        """ids: (N, L), eot: (N,), as for `encode_sharing`."""
        self.shape = len(ids), ids.shape[1]
        self.inside = torch.arange(ids.shape[1], device=ids.device) <= eot[:, None]  # (N, L)
        keys = prefix_keys(ids).masked_fill(~self.inside, torch.iinfo(torch.int64).max)
        distinct, nodes = keys.flatten().unique(return_inverse=True)
        self.nodes = nodes  # (N L,): padding is a node too, the last, which nothing reads
        count = max(len(distinct), LEAST_ROWS)
        self.rows = torch.zeros(count, dtype=torch.long, device=ids.device)  # (M,): where in (N L) a node is read off
        self.rows.scatter_(0, nodes, torch.arange(nodes.numel(), device=ids.device))
        self.token_ids = ids.flatten()[self.rows]
        self.depths = self.rows % ids.shape[1]
        at = torch.arange(len(ids), device=ids.device)
        ends = nodes.view(self.shape)[at, eot]
        self.ends = torch.cat([ends, ends[-1:].expand(max(0, LEAST_ROWS - len(ends)))])

    def attend(self, block: Layer, q: Tensor, kv: Tensor) -> Tensor:
        """What each node reads (M, D) of the nodes before it, by queries (M, D), keys and values (M, 2 D)."""
        q = block.split(self._in_rows(q))
        k, v = (block.split(part) for part in self._in_rows(kv).chunk(2, -1))
        read = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (N, H, L, D/H)
        return read.transpose(1, 2).reshape(self.nodes.numel(), -1)[self.rows]

    def attend_at_ends(self, block: Layer, q: Tensor, kv: Tensor) -> Tensor:
        """The same for the queries (N or LEAST_ROWS, D) of whole prompts alone."""
        n = len(self.inside)
        k, v = (block.split(part) for part in self._in_rows(kv).chunk(2, -1))
        rows = read_by_one(block.split(q[:n, None]), k, v, self.inside)
        return torch.cat([rows, rows[-1:].expand(len(q) - n, -1)])

    def _in_rows(self, x: Tensor) -> Tensor:
        """Of nodes (M, K) → of prompts (N, L, K)."""
        return x[self.nodes].view(*self.shape, -1)


def read_by_one(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    """What one query a prompt (N, H, 1, D/H) reads (N, D) of keys and values (N, H, L, D/H) where visible (N, L) is true.

    The fused attention gives each thread a buffer of its own, and of a single query they are not aligned alike: on some
    processors the last bit then depends on which thread a prompt falls to. Sums do not.
    """
    scores = (q * k).sum(3) * q.shape[3] ** -0.5
    shares = scores.masked_fill(~visible[:, None], -torch.inf).softmax(2)
    return (shares[..., None] * v).sum(2).flatten(1)


def prefix_keys(ids: Tensor) -> Tensor:
    """A 64-bit key (N, L) of every prefix of ids (N, L); equal prefixes have equal keys, others practically never."""
    return (mixed(ids) * powers(ids.shape[1], ids.device)).cumsum(1)
