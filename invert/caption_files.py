"""Captions in text files beside pictures: what names them on the command line, and where they lie. Imports nothing heavy."""

from __future__ import annotations

import os

SIDECAR = "sidecar"  # the captioner that reads NAME.txt beside the picture


def sidecar_names(path: str) -> tuple[str, str]:
    """Where the text beside a picture may lie; the first that is there is read."""
    return os.path.splitext(path)[0] + ".txt", path + ".txt"
