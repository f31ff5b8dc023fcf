"""Downloads by the model libraries: in silence, and without their long retries where no hub answers."""

from __future__ import annotations

import logging
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants as hub

HUB_TIMEOUT = 5  # seconds


@contextmanager
def quiet(local: bool) -> Iterator[None]:
    """Silence the model libraries while loading; where the hub does not answer, spare the user their long retries."""
    level, offline = logging.root.manager.disable, hub.HF_HUB_OFFLINE
    logging.disable(logging.CRITICAL)
    hub.HF_HUB_OFFLINE = offline or local or not _hub_answers()  # weights that are in the hub's cache still load
    try:
        yield
    finally:
        logging.disable(level)
        hub.HF_HUB_OFFLINE = offline


def _hub_answers() -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(hub.ENDPOINT, method="HEAD"), timeout=HUB_TIMEOUT)
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True
