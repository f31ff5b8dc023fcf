"""The core knows no world: nothing outside `invert/picturebook/` imports it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import invert

ROOT = Path(invert.__path__[0])
WORLD = "invert.picturebook"
# Where its parts are looked up by name, as strings. The command's --scene and --list-objects are aliases of its commands.
REGISTRIES = {"registry.py", "cli/command.py"}
CORE = sorted(path for path in ROOT.rglob("*.py") if ROOT / "picturebook" not in path.parents)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> set[str]:
    """Every module that the file imports, wherever in it, relative imports resolved."""
    package = ["invert", *path.relative_to(ROOT).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_imports_no_world(path: Path) -> None:
    assert not {module for module in imported(path) if module == WORLD or module.startswith(f"{WORLD}.")}


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_world_is_named_in_the_registries_alone(path: Path) -> None:
    strings = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
    named = [text for text in strings if isinstance(text, str) and WORLD in text and "\n" not in text]
    assert not named or name_of(path) in REGISTRIES or all(" " in text for text in named)  # a sentence may name it


def test_the_test_sees_an_import_in_a_function_and_a_relative_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    file = tmp_path / "methods" / "one.py"
    file.parent.mkdir()
    file.write_text("def f():\n    from ..picturebook import world\n    import invert.picturebook.render as r\n")
    assert {"invert.picturebook", "invert.picturebook.world", "invert.picturebook.render"} <= imported(file)


def test_known_tokens_are_known_to_picturebook_alone() -> None:
    assert [name_of(path) for path in CORE if re.search(r"known_tokens|trained_token_ids\(", path.read_text())] == []


@pytest.mark.parametrize("statement", ["import invert", "from invert.methods import method_names; method_names()"])
def test_importing_the_package_and_listing_its_methods_needs_no_torch(statement: str) -> None:
    heavy = "{name for name in ('torch', 'open_clip', 'faiss', 'transformers', 'diffusers') if name in sys.modules}"
    done = subprocess.run([sys.executable, "-c", f"import sys; {statement}; print({heavy})"], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr


def test_every_public_name_can_be_had() -> None:
    assert all(getattr(invert, name) is not None for name in invert.__all__)
