"""Pictures, and the refusal of what is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from invert.errors import InputError
from invert.images import load_image


@pytest.fixture
def photo() -> Image.Image:
    """40 × 20: red on the left, blue on the right, a green corner at the top left."""
    image = Image.new("RGB", (40, 20), (255, 0, 0))
    image.paste((0, 0, 255), (20, 0, 40, 20))
    image.paste((0, 255, 0), (0, 0, 8, 8))
    return image


@pytest.fixture
def refusal() -> Callable[..., str]:
    """The one sentence with which a source is refused; it names the source or what messages are to call it."""

    def refused(source: Any, called: str | None = None) -> str:
        with pytest.raises(InputError) as caught:
            load_image(source, called)
        message = str(caught.value)
        assert "\n" not in message and (called or str(source)) in message
        return message

    return refused
