"""What surrounds the code (workflows, issue forms, hooks, the container) parses, and names what exists."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
YAML = [ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff", *sorted((ROOT / ".github").rglob("*.yml"))]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
VERSIONS = ["3.11", "3.12", "3.13", "3.14"]


def parsed(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def pinned(name: str) -> dict[str, str]:
    """Package → version of a file of constraints, names as PyPI normalizes them."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    return {re.sub(r"[-_.]+", "-", package.lower()): version for package, version in (line.split("==") for line in lines)}


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_yaml_is_a_mapping_without_odd_keys(path: Path) -> None:
    assert isinstance(parsed(path), dict) and parsed(path)


@pytest.mark.parametrize("name", ["ci", "release"])
def test_a_workflow_runs_files_that_exist_and_asks_for_no_more_than_it_needs(name: str) -> None:
    workflow = parsed(ROOT / ".github" / "workflows" / f"{name}.yml")
    assert workflow["permissions"] == {"contents": "read"} and workflow[True]  # YAML reads `on` as true
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert all(("uses" in step) != ("run" in step) for step in steps)
    scripts = re.findall(r"(?:scripts/\S+\.py|\.ci/run)", " ".join(step.get("run", "") for step in steps))
    assert scripts and all((ROOT / script).is_file() for script in scripts)


def test_releases_are_published_by_trust_and_not_by_a_token() -> None:
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    job = yaml.safe_load(text)["jobs"]["publish"]
    assert job["permissions"] == {"id-token": "write"} and job["environment"] == "pypi" and "secrets." not in text


def test_the_release_reads_the_version_as_python_does() -> None:
    from invert import __version__

    (step,) = [s for s in parsed(ROOT / ".github/workflows/release.yml")["jobs"]["build"]["steps"] if "tag" in s.get("name", "")]
    for tag, status in ((f"v{__version__}", 0), ("v9.9.9", 1)):
        done = subprocess.run(
            ["bash", "-c", step["run"]], cwd=ROOT, env={"PATH": "/usr/bin:/bin", "GITHUB_REF_NAME": tag}, check=False
        )
        assert done.returncode == status


def test_every_python_version_that_is_promised_is_tested() -> None:
    promised = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    jobs = parsed(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]
    matrix = jobs["versions"]["strategy"]["matrix"]
    assert promised == VERSIONS == ["3.11", *matrix["python"]] and PROJECT["requires-python"] == f">={VERSIONS[0]}"


def test_the_lowest_constraints_are_the_lower_bounds() -> None:
    lowest = pinned("constraints-lowest.txt")
    for requirement in PROJECT["dependencies"]:
        name, _, bound = requirement.partition(">=")
        numbers = [int(part) for part in lowest[re.sub(r"[-_.]+", "-", name.lower())].split(".")]
        wanted = [int(part) for part in bound.split(".")]
        assert numbers[: len(wanted)] == wanted, requirement


def test_the_hooks_run_the_linter_of_the_constraints() -> None:
    (repository,) = parsed(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["rev"] == f"v{pinned('constraints.txt')['ruff']}"


def test_issue_forms_have_what_github_asks_for() -> None:
    forms = [path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml"]
    for form in map(parsed, forms):
        assert {"name", "description", "body"} <= form.keys()
        fields = [field for field in form["body"] if field["type"] != "markdown"]
        assert len({field["id"] for field in fields}) == len(fields) > 0
        assert all(field["attributes"]["label"] for field in fields)


def test_the_container_copies_what_exists_and_takes_extras_that_exist() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()}
    assert copied == allowed and all((ROOT / name).exists() for name in copied)
    (extras,) = re.findall(r"^ARG EXTRAS=(.+)$", DOCKERFILE, re.MULTILINE)
    assert set(extras.split(",")) <= PROJECT["optional-dependencies"].keys()
    assert re.search(r"^USER (?!root)", DOCKERFILE, re.MULTILINE) and 'ENTRYPOINT ["invert"]' in DOCKERFILE
    assert {"torch", "torchvision"} <= pinned("constraints.txt").keys()
