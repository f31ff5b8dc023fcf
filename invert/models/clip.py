"""A frozen CLIP: images and prompts to unit latents, prompts also by their input embeddings.

Adapters (`invert.models.open_clip`, `invert.models.transformers`) turn other libraries' models into
this object; the text side is always our own `TextTower`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from invert.models.tower import TextTower

TEXT_BATCH = 256  # prompts in one forward


@dataclass(frozen=True)
class Tokenizer:
    """CLIP's byte-pair encoding without special tokens."""

    encode: Callable[[str], list[int]]
    decode: Callable[[list[int]], str]
    raw: Callable[[int], str]  # a token's own text, with "</w>" where a word ends
    start_id: int  # start-of-text
    end_id: int  # end-of-text


class Clip:
    """A frozen CLIP. All latents are unit vectors (…, E) on `device` in `dtype`."""

    def __init__(
        self,
        name: str,
        tower: TextTower,
        visual: Callable[[Tensor], Tensor],
        preprocess: Callable[[Image.Image], Tensor],
        normalize: Callable[[Tensor], Tensor],
        tokenizer: Tokenizer,
        image_size: int,
        logit_scale: float,
    ) -> None:
        """visual: normalized images (B, 3, S, S) → (B, E). normalize: pixels in 0..1 → the same, normalized."""
        self.name, self.tower, self.tokenizer = name, tower, tokenizer
        self.visual, self.preprocess, self.normalize = visual, preprocess, normalize
        self.image_size, self.logit_scale = image_size, logit_scale
        self.start_id, self.end_id = tokenizer.start_id, tokenizer.end_id

    @property
    def token_embeddings(self) -> Tensor:
        """The token table (V, D)."""
        return self.tower.table

    @property
    def device(self) -> torch.device:
        return self.tower.table.device

    @property
    def dtype(self) -> torch.dtype:
        return self.tower.table.dtype

    @property
    def context_length(self) -> int:
        return len(self.tower.positions)

    def token_text(self, token: int) -> str:
        """The raw text of one token: "fox</w>"."""
        return self.tokenizer.raw(token)

    def embed(self, ids: Tensor) -> Tensor:
        """ids (…) int64 → token rows (…, D)."""
        return self.tower.embed(ids)

    def encode_embeddings(self, e: Tensor, eot: Tensor | None = None) -> Tensor:
        """Input embeddings (B, T, D), special rows included → unit latents (B, E), differentiable.

        eot: (B,) position of end-of-text; None: the last. Nothing after it is run.
        """
        return F.normalize(self.tower.encode(e, eot), dim=-1)

    def add_special_ids(self, ids: Tensor) -> Tensor:
        """Token ids (B, L) → (B, L + 2): between start-of-text and end-of-text."""
        edges = torch.tensor([[self.start_id, self.end_id]], device=ids.device).expand(len(ids), 2)
        return torch.cat([edges[:, :1], ids, edges[:, 1:]], 1)

    def add_special_embeddings(self, embeddings: Tensor) -> Tensor:
        """Embeddings (B, L, D) → (B, L + 2, D): between those of start-of-text and end-of-text."""
        table = self.token_embeddings
        edges = torch.stack([table[self.start_id], table[self.end_id]]).to(embeddings.dtype).expand(len(embeddings), 2, -1)
        return torch.cat([edges[:, :1], embeddings, edges[:, 1:]], 1)

    def tokenize(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Prompts → ids (B, longest) int64 padded with end-of-text, and eot (B,); cut to the context."""
        return self.pad([self.ids_with_special_tokens(prompt) for prompt in prompts])

    def ids_with_special_tokens(self, prompt: str) -> list[int]:
        """A prompt's ids between the special tokens, cut to the context."""
        return [self.start_id, *self.tokenizer.encode(prompt)[: self.context_length - 2], self.end_id]

    def pad(self, rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Rows of ids → one tensor (B, longest) padded with end-of-text, and where each ends (B,)."""
        longest = max(map(len, rows))
        ids = torch.tensor([row + [self.end_id] * (longest - len(row)) for row in rows], device=self.device)
        return ids, torch.tensor([len(row) - 1 for row in rows], device=self.device)

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Prompts → unit latents (B, E)."""
        rows = [self.ids_with_special_tokens(prompt) for prompt in ([prompts] if isinstance(prompts, str) else prompts)]
        # Those of like length together: none is run as far as the longest of all.
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        parts = []
        for i in range(0, len(rows), TEXT_BATCH):
            ids, eot = self.pad([rows[j] for j in order[i : i + TEXT_BATCH]])
            parts.append(self.encode_embeddings(self.embed(ids), eot))
        return torch.cat(parts)[torch.tensor(order, device=self.device).argsort()]

    @torch.no_grad()
    def encode_image(self, images: Sequence[Image.Image] | Tensor) -> Tensor:
        """PIL images, or pixels (B, 3, S, S) in 0..1 of the model's own size → unit latents (B, E)."""
        if isinstance(images, Tensor):
            pixels = self.normalize(images.to(self.device, self.dtype))
        else:
            return self.encode_preprocessed(torch.stack([self.preprocess(image) for image in images]))
        return F.normalize(self.visual(pixels), dim=-1)

    @torch.no_grad()
    def encode_preprocessed(self, pixels: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) as `preprocess` gives them → unit latents (B, E)."""
        return F.normalize(self.visual(pixels.to(self.device, self.dtype)), dim=-1)
