"""The node, called as ComfyUI calls it: its mappings, its inputs' defaults, its function by name. ComfyUI is not needed."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from invert.errors import InputError
from invert.inverter import Inverter

FOLDER = Path(__file__).parents[3] / "integrations" / "comfyui"


@pytest.fixture(scope="module")
def package() -> ModuleType:
    """The folder as ComfyUI imports a custom node: from its path."""
    spec = importlib.util.spec_from_file_location("custom_node_invert", FOLDER / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def node(package: ModuleType, toy_bundle, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class, over a tiny model."""
    loads: list[tuple[Any, ...]] = []
    monkeypatch.setattr(Inverter, "load", lambda *names: loads.append(names) or Inverter(toy_bundle))
    sys.modules["custom_node_invert.nodes"].loaded.cache_clear()  # type: ignore[attr-defined]
    made = package.NODE_CLASS_MAPPINGS["InvertPrompt"]
    made.loads = loads
    return made


def values(node: Any, **changes: Any) -> dict[str, Any]:
    """Every input at what the node's form would show: its default, or the first choice of its list."""
    types = node.INPUT_TYPES()
    shown = {}
    for name, (kind, *options) in (types["required"] | types["optional"]).items():
        default = options[0].get("default") if options else None
        shown[name] = kind[0] if default is None and isinstance(kind, list) else default
    return {**shown, "method": "random", "tokens": 4, "max_tokens": 4, "seconds": 0.02, **changes}


def run(node: Any, images: torch.Tensor, **changes: Any) -> list[str]:
    (prompts,) = getattr(node(), node.FUNCTION)(**values(node, image=images, **changes))
    return prompts


def test_a_batch_of_images_gives_a_list_of_prompts(node: Any) -> None:
    assert node.RETURN_TYPES == ("STRING",) and node.OUTPUT_IS_LIST == (True,)
    prompts = run(node, torch.rand(3, 20, 30, 3))
    assert len(prompts) == 3 and all(isinstance(prompt, str) and prompt for prompt in prompts)
    assert len(run(node, torch.rand(3, 20, 30, 3), together=True)) == 1


def test_the_images_reach_the_model_as_they_are(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    found = SimpleNamespace(prompt="a fox")
    monkeypatch.setattr(Inverter, "invert_joint", lambda self, images, config, stop: seen.extend(images) or found)
    images = torch.rand(2, 20, 30, 3)
    assert run(node, images) == ["a fox", "a fox"]
    assert torch.equal(torch.stack(seen), images.permute(0, 3, 1, 2))


def test_the_model_stays_loaded_between_calls(node: Any) -> None:
    for _ in range(2):
        run(node, torch.rand(1, 20, 30, 3))
    assert node.loads == [("picturebook", None, None)]
    run(node, torch.rand(1, 20, 30, 3), bundle="english")
    assert node.loads[1:] == [("picturebook", "english", None)]


def test_what_cannot_be_done_is_one_sentence(node: Any) -> None:
    assert node.VALIDATE_INPUTS(model="picturebook", method="invert") is True
    assert "`model` is empty" in node.VALIDATE_INPUTS(model=" ", method="invert")
    with pytest.raises(InputError, match="cannot follow `must_include`"):
        run(node, torch.rand(1, 20, 30, 3), must_include="w1")


class Cancelled(Exception):
    """Stands for ComfyUI's InterruptProcessingException."""


def test_comfyui_chooses_the_device_shows_progress_and_cancels(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[int] = []
    pressed = [False]

    def throw() -> None:
        if pressed[0]:
            raise Cancelled

    management = SimpleNamespace(
        get_torch_device=lambda: "cpu",
        processing_interrupted=lambda: pressed[0],
        throw_exception_if_processing_interrupted=throw,
    )
    utils = SimpleNamespace(ProgressBar=lambda total: SimpleNamespace(update=moved.append))
    monkeypatch.setitem(sys.modules, "comfy.model_management", management)
    monkeypatch.setitem(sys.modules, "comfy.utils", utils)
    run(node, torch.rand(2, 20, 30, 3))
    assert moved == [1, 1] and node.loads == [("picturebook", None, "cpu")]
    pressed[0] = True
    with pytest.raises(Cancelled):
        run(node, torch.rand(2, 20, 30, 3), seconds=3600.0)


def test_the_folder_is_what_the_registry_asks_for() -> None:
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text(encoding="utf-8"))
    assert {"PublisherId", "DisplayName"} <= project["tool"]["comfy"].keys()
    needs = (FOLDER / "requirements.txt").read_text(encoding="utf-8").split()
    assert project["project"]["dependencies"] == needs == ["prompt-inversion"]  # no versions: ComfyUI's own packages stay
