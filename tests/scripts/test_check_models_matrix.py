"""The matrix of docs/models.md: its rows, commands and names are found, and each command is held to its column."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts import check_models_matrix as matrix
from scripts.check_models_matrix import Row, Shelf, Try

SECTIONS = matrix.sections(matrix.PAGE.read_text())
PAGE = """## Encoders

| family | give, for example | target | judge | extra |
| --- | --- | --- | --- | --- |
| A, B | `a/one`, `hf:org/b` | yes | no | none; `more` for `c` |
| C | a folder | yes | yes | `more` |

```sh
invert image.png --model NAME   # target
invert image.png --judge NAME --json  # judge: what it says
invert image.png --model a/one
```

## Generators

| family | give, for example | prompt | extra |
| --- | --- | --- | --- |
| D | `org/d --steps 4` with `--model sdxl` | yes | none |

```sh
invert image.png --generator NAME --json # prompt
```
"""


def test_every_name_of_the_page_has_a_small_model_and_every_column_a_command() -> None:
    builders = {**matrix.encoders(), **matrix.generators()}
    for section, columns in (("Encoders", {"target", "judge", "soft"}), ("Generators", {"prompt", "soft", "learn"})):
        assert set(matrix.commands_of(SECTIONS[section])) == columns
        for row in matrix.rows(SECTIONS[section]):
            assert set(row.columns) <= columns and row.columns and row.extra in ("", "siglip", "diffusion")
            for name in row.given or (row.family,):
                known = name.split()[0] in builders or name in builders
                assert known or name.startswith("https://") or row.family == "picturebook", name


def test_only_the_names_of_the_commands_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "generators", lambda: {"org/d": lambda folder: "its clips"})
    builders = {name: lambda folder: None for name in ("a/one", "hf:org/b", "C")} | matrix.generators()
    shelf = Shelf(tmp_path / "hub", tmp_path, "http://server", builders, {})
    found = [(one.words[2:], one.extra) for one in matrix.tries(PAGE, shelf, "")]
    assert found == [
        (("--model", str(tmp_path / "a-one")), ""),
        (("--model", "hf:org/b"), ""),
        (("--model", str(tmp_path / "C")), ""),  # without the extra, which is to be named
        (("--model", str(tmp_path / "C")), "more"),
        (("--judge", str(tmp_path / "C"), "--json"), "more"),
        (("--generator", "org/d", "--steps", "4", "--model", "its clips", "--json"), ""),
    ]
    assert (tmp_path / "hub" / "models--org--b" / "snapshots" / matrix.REVISION).is_dir()
    assert [one.column for one in matrix.tries(PAGE, shelf, "C.*judge")] == ["judge", "judge"]


@pytest.mark.parametrize(
    ("column", "out", "right"),
    [
        ("target", "a fox\n", True),
        ("target", "\n", False),
        ("judge", json.dumps({"prompt": "a fox", "judge": 0.5}), True),
        ("judge", json.dumps({"prompt": "a fox"}), False),
        ("prompt", json.dumps({"prompt": "a fox", "drawn": [{"seed": 0}, {"seed": 1, "problem": "black"}]}), False),
        ("soft", json.dumps({"prompt": "a fox", "drawn": [{"seed": 0}], "soft_drawn": None}), False),
    ],
)
def test_a_command_is_held_to_its_column(column: str, out: str, right: bool) -> None:
    words = ("invert", "image.png", *(["--json"] if out.startswith("{") else []))
    row = Row("family", (), (column,), "")
    assert (matrix.fault(Try(row, column, "", words, ""), 0, out, "") == "") == right
    assert matrix.fault(Try(row, column, "", words, ""), 2, out, "invert: no")


def test_without_its_extra_a_command_has_to_name_it() -> None:
    one = Try(Row("family", (), ("target",), "siglip"), "target", "", ("invert", "image.png"), "")
    assert matrix.fault(one, 2, "", "invert: it needs a package: pip install 'prompt-inversion[siglip]'\n") == ""
    assert matrix.fault(one, 0, "a fox\n", "") and matrix.fault(one, 2, "", "invert: no such file\n")
