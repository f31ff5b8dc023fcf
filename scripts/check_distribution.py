"""Check what was built: the wheel holds the packages alone and is small, and the source distribution gives the same wheel.

In: a folder with a source distribution and the wheel that was built from it (as `python -m build` leaves them), and a folder
with the wheel that was built from the tree; out: a sentence for each fault, exit status 1 where there is one.
`python scripts/check_distribution.py dist tree`
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("invert", "clustering", "kernels")
LEFT_OUT = (".gitignore", "experiments/starts/")  # of no use without the repository
MAX_BYTES = 50_000_000  # of a wheel


def only(folder: Path, pattern: str) -> Path:
    """The one file of that pattern; ValueError where there are none or several."""
    (found,) = folder.glob(pattern)
    return found


def in_wheel(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def in_source(source: Path) -> set[str]:
    """The files of a source distribution, without the folder that holds them all."""
    with tarfile.open(source) as archive:
        return {member.name.partition("/")[2] for member in archive if member.isfile()}


def tracked() -> set[str]:
    """The files of the repository that a source distribution has to hold."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return {name for name in listed if not name.startswith(LEFT_OUT)}


def faults(source: Path, wheel: Path, of_tree: Path, wanted: Collection[str]) -> list[str]:
    """What is wrong, a sentence each. wanted: files that the source distribution has to hold."""
    found = []
    if wheel.stat().st_size > MAX_BYTES:
        found.append(f"the wheel has {wheel.stat().st_size:,} bytes, more than {MAX_BYTES:,}")
    names = in_wheel(wheel)
    strangers = sorted({name.split("/")[0] for name in names if ".dist-info/" not in name} - set(PACKAGES))
    if strangers:
        found.append(f"the wheel holds what is run from a clone: {', '.join(strangers)}")
    differing = sorted(names ^ in_wheel(of_tree))
    if differing:
        found.append(f"the wheels of the source distribution and of the tree differ in {', '.join(differing[:10])}")
    missing = sorted(set(wanted) - in_source(source))
    if missing:
        found.append(f"the source distribution lacks {', '.join(missing[:10])}")
    return found


def main() -> int:
    built, tree = Path(sys.argv[1]), Path(sys.argv[2])
    wheel = only(built, "*.whl")
    found = faults(only(built, "*.tar.gz"), wheel, only(tree, "*.whl"), tracked())
    for sentence in found:
        print(sentence, file=sys.stderr)
    if not found:
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, {len(in_wheel(wheel))} files")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
