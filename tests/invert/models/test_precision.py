"""Half precision: targets and the last comparison of prompts are computed in float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from experiments.precision import compared
from invert.budget import Budget
from invert.inverter import Inverter
from invert.methods.task import InversionTask
from invert.models.clip import Clip
from invert.models.loading import load_clip
from invert.models.turns import Turns
from invert.scorer import PromptScorer
from invert.target import image_latent, text_latent
from tests.invert.conftest import saved_folder

PICTURE = Image.linear_gradient("L").resize((64, 64)).convert("RGB")


@pytest.fixture(scope="module")
def half() -> Inverter:
    return Inverter.load("picturebook", device="cpu", dtype="bfloat16")


def test_targets_and_final_scores_are_those_of_float32(half: Inverter, picturebook: Clip) -> None:
    target = image_latent(half.clip, [PICTURE])
    assert torch.equal(target, image_latent(picturebook, [PICTURE]))
    assert torch.equal(text_latent(half.clip, "a fox"), text_latent(picturebook, "a fox"))
    budget = Budget()
    score = PromptScorer(half.clip, target, budget).score_text("a red fox")
    assert score == PromptScorer(picturebook, target, Budget()).score_text("a red fox")
    assert budget.forward_tokens == 5
    assert picturebook.exact is picturebook


@pytest.mark.parametrize(("method", "options"), [("invert", {"budget": 3000}), ("gcg", {"budget": 3000, "tokens": 4})])
def test_results_are_ordered_and_scored_in_float32(half: Inverter, picturebook: Clip, method: str, options: dict) -> None:
    result = half.invert(PICTURE, method=method, top=3, **options)
    target = image_latent(picturebook, [PICTURE])
    scores = [float(text_latent(picturebook, prompt) @ target) for prompt, _ in result.alternatives]
    assert [score for _, score in result.alternatives] == pytest.approx(scores, abs=1e-5)
    if method == "gcg":  # there nothing but the cosine counts
        assert scores == sorted(scores, reverse=True)
    else:
        assert result.soft is not None and result.soft.dtype == torch.float32


def test_a_search_in_half_precision_runs_on_float32_master_copies(half: Inverter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Token rows that are searched, soft prompts and gradients have float32; the tower sees bfloat16."""
    seen: list[torch.dtype] = []
    encode = half.clip.tower.encode

    def watched(e: Tensor, eot: Tensor | None = None) -> Tensor:
        seen.append(e.dtype)
        return encode(e, eot)

    monkeypatch.setattr(half.clip.tower, "encode", watched)
    index = half.bundle.token_index
    assert index.embeddings.dtype == index.word_means.dtype == torch.float32
    task = make_task(half)
    _, gradient = task.scorer().score_and_gradient(index.embeddings[None, :3])
    assert gradient.dtype == torch.float32 and set(seen) == {torch.bfloat16}


def make_task(inverter: Inverter) -> InversionTask:
    from invert.config import InvertConfig
    from invert.history import History

    target = image_latent(inverter.clip, [PICTURE])
    return InversionTask(inverter.bundle, target, InvertConfig(), torch.Generator(), Budget(), History())


def test_in_little_memory_nothing_is_kept_in_float32(tmp_path: Path) -> None:
    _, folder = saved_folder(tmp_path, width=64, heads=4, layers=1, quick_gelu=True)
    clip = load_clip(str(folder), "cpu", "float16", turns=Turns())
    assert clip.exact is clip and clip.encode_image([PICTURE]).dtype == torch.float32


def test_the_finding_counts_prompts_that_differ_in_a_word() -> None:
    def record(prompt: str) -> dict:
        return {"prompt": prompt, "picture": "p", "word_f1": 0.5, "judge": 0.25}

    found = compared([record("a fox"), record("an owl")], [record("a fox"), record("the owl")])
    assert found["differ"] == 0.5
    assert found["different prompts"] == [{"picture": "p", "float32": "an owl", "here": "the owl"}]
