"""What is said about the package in several places is the same in all of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import invert

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = ("invert", "clustering", "kernels")


def test_the_version_stands_in_one_place_and_the_citation_follows_it() -> None:
    assert "version" not in PROJECT["project"] and PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "invert.__version__"}
    assert f"\nversion: {invert.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_transformers_takes_our_kernels_for_no_version_of_its_own() -> None:
    assert tuple(int(part) for part in invert.__version__.split(".")[:2]) < (0, 10)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"][package]


def test_the_wheel_holds_the_packages_and_no_experiments() -> None:
    assert PROJECT["tool"]["setuptools"]["packages"]["find"]["include"] == [f"{package}*" for package in PACKAGES]


def test_every_file_that_is_not_code_is_package_data() -> None:
    for package in PACKAGES:
        folder = ROOT / package
        patterns = PROJECT["tool"]["setuptools"]["package-data"]
        shipped = {
            path
            for name, globs in patterns.items()
            if name.split(".")[0] == package
            for glob in globs
            for path in (ROOT / name.replace(".", "/")).glob(glob)
        }
        present = {path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
        assert {path for path in present if path.suffix != ".py"} <= shipped


def test_every_development_tool_is_constrained() -> None:
    constrained = {re.split("==", line)[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    extras = PROJECT["project"]["optional-dependencies"]
    for requirement in PROJECT["project"]["dependencies"] + extras["dev"] + extras["notebooks"]:
        name = re.split(r"[\[<>=; ]", requirement)[0].lower()
        assert name in constrained | {"prompt-inversion"}


def test_the_notebooks_bring_what_tqdm_asks_for_in_a_kernel() -> None:
    names = {re.split("[<>=]", requirement)[0] for requirement in PROJECT["project"]["optional-dependencies"]["notebooks"]}
    assert {"ipykernel", "ipywidgets"} <= names
