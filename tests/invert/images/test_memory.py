"""What a large picture takes of memory while it is read, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

MEASURED = """
import sys
from pathlib import Path
from invert.images import load_image
image = load_image(sys.argv[1])
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(image.width, image.height, image.mode, image.getpixel((0, 0))[0], int(peak.split()[1]) // 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells the peak of one process")
@pytest.mark.parametrize(
    ("mode", "side", "bound"), [("1", 9400, 200), ("LA", 5000, 220), ("I;16", 5000, 220), ("WEBP", 4000, 400)]
)
def test_a_large_picture_stays_within_its_memory(tmp_path: Path, mode: str, side: int, bound: int) -> None:
    """bound: MiB of the whole process, of which 40 are its modules."""
    path = tmp_path / f"large.{'webp' if mode == 'WEBP' else 'png'}"
    Image.new("RGB" if mode == "WEBP" else mode, (side, side)).save(path, compress_level=1, method=0)
    done = subprocess.run([sys.executable, "-c", MEASURED, str(path)], capture_output=True, text=True, check=True)
    width, height, kind, value, peak = done.stdout.split()
    assert kind == "RGB" and width == height and int(width) ** 2 <= 1 << 22
    assert int(value) == (255 if mode == "LA" else 0)  # transparent black on white
    assert int(peak) <= bound
