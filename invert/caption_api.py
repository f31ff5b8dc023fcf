"""Captions by a server that speaks OpenAI's chat completions with images, whatever model stands behind it.

POST /v1/chat/completions with one picture as a data address; the answer holds `choices[0].message.content`. The key comes
from the environment variable INVERT_CAPTION_KEY. Nothing here needs torch.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from typing import Any

from PIL import Image

from invert.errors import InputError
from invert.images import thumbnail
from invert.images.addresses import DownloadLimits
from invert.json_api import JsonApi

INSTRUCTION = (
    "Describe this picture in one short sentence: what is there, where, and in which medium or style. Only the sentence."
)
LIMITS = DownloadLimits(seconds=120.0, max_bytes=4 << 20)  # of one caption
SENT_SIDE = 1024  # pixels of the picture that is sent, at most
MOST_TOKENS = 100  # of the answer


class CaptionApi(JsonApi):
    """One server."""

    called, brings, key_name = "the caption endpoint", "caption", "INVERT_CAPTION_KEY"
    route = "/v1/chat/completions"
    settings, model_setting = "`caption_model`, and that the model reads pictures", "caption_model"

    def __init__(self, address: str, model: str | None = None, limits: DownloadLimits | None = None) -> None:
        """model: by its name there; None for the server's own choice."""
        super().__init__(address, limits or LIMITS)
        self.model = model

    def __call__(self, images: Sequence[Image.Image]) -> list[str]:
        """A caption of each picture, one request each.

        Raises:
            InputError: none comes.
        """
        return [self.caption(image) for image in images]

    def caption(self, image: Image.Image) -> str:
        """The caption of one picture."""
        reply = self.answer(self.request(image))
        if reply.status != 200:
            raise self.refused(reply, self.message(reply))
        text = content_of(reply.content)
        if text is None:
            raise InputError(
                f"{self.called} {self.name} answers with no caption: check that it speaks OpenAI's chat completions "
                f"({self.route})"
            )
        return text

    def request(self, image: Image.Image) -> dict[str, Any]:
        """What is posted for a picture."""
        buffer = io.BytesIO()
        thumbnail(image, SENT_SIDE).convert("RGB").save(buffer, "JPEG", quality=90)
        address = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        parts = [{"type": "text", "text": INSTRUCTION}, {"type": "image_url", "image_url": {"url": address}}]
        named = {} if self.model is None else {"model": self.model}
        return {**named, "messages": [{"role": "user", "content": parts}], "max_tokens": MOST_TOKENS, "temperature": 0}


def content_of(answer: bytes) -> str | None:
    """The text of the first choice; None where there is none."""
    try:
        content = json.loads(answer)["choices"][0]["message"]["content"]
    except (ValueError, RecursionError, KeyError, IndexError, TypeError):
        return None
    if isinstance(content, list):  # some servers answer in parts
        content = " ".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    return content if isinstance(content, str) and content.strip() else None
