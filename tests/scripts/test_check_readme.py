"""The README's commands are found, and each is held to what it should do."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_commands_are_the_lines_of_shell_blocks(script: ModuleType) -> None:
    shell = '```\n.venv/bin/invert a.png  # the prompt\n# only a comment\n\n$ invert \\\n  "b # c.png"\n```\n'
    text = "Run `ls`.\n" + shell + "```python\nx = 1\n```\n"
    assert script.commands(text) == ["invert a.png  # the prompt", 'invert    "b # c.png"']
    assert script.bare("invert a.png  # the --generate prompt") == "invert a.png"
    assert [block.language for block in script.blocks(text)] == ["", "python"]


def test_the_readme_has_commands_to_run_and_to_set_up(script: ModuleType) -> None:
    found = script.commands(README)
    assert any(script.sets_up(command) for command in found)
    run = [command for command in found if not script.sets_up(command)]
    assert any(command.startswith("invert ") for command in run)


@pytest.mark.parametrize(
    ("command", "status", "stderr", "fault"),
    [
        ("invert a.png", 0, "", ""),
        ("invert a.png", 2, "invert: no such file", "exit status 2 instead of 0"),
        ("invert a.png", 0, "Traceback (most recent call last)", "a traceback"),
        ("invert a.png --generate 4", 2, "invert: drawing needs diffusers: pip install 'prompt-inversion[diffusion]'", ""),
        ("invert a.png --generate 4", 2, "invert: no", "the sentence does not name the extra 'diffusion'"),
        ("invert a.png --generate 4", 0, "", "exit status 0 with 0 sentences, instead of 2 with one"),
        ("invert a.png --model hf:some/model", 2, "invert: cannot be reached", ""),
        ("invert a.png --model hf:some/model", 1, "", "exit status 1 with 0 sentences, instead of 2 with one"),
    ],
)
def test_each_command_is_held_to_its_kind(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, command: str, status: int, stderr: str, fault: str
) -> None:
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda module: None)  # no extra is installed
    assert script.fault(command, status, stderr) == fault


def test_a_readme_that_lies_is_found_out(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "right").mkdir()
    (tmp_path / "wrong").mkdir()
    assert script.check("```\ntest -f image.png\n```\n```python\nprint(1)\n```\n", tmp_path / "right")
    assert not script.check("```\ntest -f missing.png\n```\n", tmp_path / "wrong")
    assert "exit status 1 instead of 0" in capsys.readouterr().out
