"""A source distribution or a wheel that is not what it should be is found out."""

from __future__ import annotations

import importlib.util
import io
import tarfile
import zipfile
import zlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
WHEEL = ["invert/__init__.py", "kernels/a.py", "x-1.dist-info/METADATA"]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_distribution", ROOT / "scripts" / "check_distribution.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wheel(path: Path, names: list[str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return path


def source(path: Path, names: list[str]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"x-1/{name}"), io.BytesIO())
    return path


@pytest.mark.parametrize(
    ("in_wheel", "of_tree", "in_source", "fault"),
    [
        (WHEEL, WHEEL, ["README.md", "PKG-INFO"], ""),
        (WHEEL, [*WHEEL, "invert/b.tsv"], ["README.md"], "of the source distribution and of the tree differ in invert/b.tsv"),
        ([*WHEEL, "tests/a.py"], [*WHEEL, "tests/a.py"], ["README.md"], "holds what is run from a clone: tests"),
        (WHEEL, WHEEL, ["LICENSE"], "the source distribution lacks README.md"),
    ],
)
def test_what_is_wrong_is_said(
    script: ModuleType, tmp_path: Path, in_wheel: list[str], of_tree: list[str], in_source: list[str], fault: str
) -> None:
    built = (source(tmp_path / "a.tar.gz", in_source), wheel(tmp_path / "a.whl", in_wheel), wheel(tmp_path / "b.whl", of_tree))
    found = script.faults(*built, ["README.md"])
    assert found == [] if not fault else len(found) == 1 and fault in found[0]


def test_a_wheel_that_is_too_large_is_refused(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "MAX_BYTES", 10)
    built = wheel(tmp_path / "a.whl", WHEEL)
    assert "more than 10" in script.faults(source(tmp_path / "a.tar.gz", []), built, built, [])[0]


def test_the_packages_are_smaller_than_a_wheel_may_be(script: ModuleType) -> None:
    files = [path for package in script.PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()]
    sizes = [len(zlib.compress(path.read_bytes(), 1)) for path in files if "__pycache__" not in path.parts]  # as a wheel does
    assert len(sizes) > 100 and sum(sizes) <= script.MAX_BYTES
