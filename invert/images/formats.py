"""The formats of pictures that are opened, by Pillow's names, and the endings that folders are searched for."""

from __future__ import annotations

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "HEIF")  # AVIF, HEIF where they are installed
# fmt: off
ENDINGS = frozenset((
    ".png", ".apng", ".jpg", ".jpeg", ".jfif", ".jpe", ".mpo", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".heic", ".heif", ".hif",
))
# fmt: on
