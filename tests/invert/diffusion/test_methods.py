"""The methods that learn a prompt through the denoiser: PH2P and textual inversion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from invert.budget import Budget
from invert.bundle import ModelBundle
from invert.config import InvertConfig, TextualInversionConfig
from invert.diffusion.drawing import to_pil
from invert.diffusion.generator import Generator
from invert.diffusion.pseudo_tokens import save_pseudo_tokens
from invert.diffusion.textual_inversion import learn
from invert.errors import InputError
from invert.history import DENOISING_ERROR, History
from invert.methods import get_method
from invert.methods.configs import Ph2pConfig
from invert.methods.ph2p import Ph2p, ph2p
from invert.methods.task import InversionTask
from invert.methods.textual_inversion import textual_inversion
from invert.picturebook.render import render
from invert.picturebook.world import draw_scenes

SHORT = Ph2pConfig(rounds=2, iterations=3, n_samples=3, n_eval_samples=4)


@pytest.fixture
def task(picturebook_bundle: ModelBundle, picturebook_reader: Path) -> InversionTask:
    images = tuple(to_pil(render(draw_scenes(1, 5), 64)))
    config = InvertConfig(method="ph2p", tokens=4, restarts=2, top=3, generator=str(picturebook_reader))
    target = picturebook_bundle.clip.encode_image(images)[0]
    rng = torch.Generator().manual_seed(0)
    return InversionTask(picturebook_bundle, target, config, rng, Budget(), History(), images)


def with_seed(task: InversionTask, seed: int = 0, **options: object) -> InversionTask:
    """The same task with a budget, a history and an rng of its own."""
    config = replace(task.config, **options)  # type: ignore[arg-type]
    return replace(task, config=config, rng=torch.Generator().manual_seed(seed), budget=Budget(), history=History())


def test_ph2p_gives_words_of_the_vocabulary_the_same_for_the_same_seed(task: InversionTask) -> None:
    first, again = ph2p(with_seed(task), SHORT), ph2p(with_seed(task), SHORT)
    assert first.prompts == again.prompts
    allowed = set(task.bundle.token_index.token_ids.tolist())
    for prompt, cosine in first.prompts:
        assert allowed.issuperset(task.clip.tokenizer.encode(prompt))
        latent = task.clip.encode_text([prompt])[0]
        assert cosine == pytest.approx(float(latent @ task.target), abs=1e-4)
    assert ph2p(with_seed(task, seed=1), SHORT).prompts != first.prompts


def test_ph2p_puts_the_lowest_denoising_error_first_and_offers_it(task: InversionTask) -> None:
    mine = with_seed(task)
    prompts = [prompt for prompt, _ in ph2p(mine, SHORT).prompts]
    errors = {step.prompt: step.value for step in mine.history.entries if step.prompt}
    assert prompts[0] == min(errors, key=lambda prompt: errors[prompt]) == mine.history.best_prompt
    assert mine.history.best_objective == -min(errors.values())
    assert {step.metric for step in mine.history.entries} == {DENOISING_ERROR}
    assert all(step.value > 0 for step in mine.history.entries)  # an error, not a cosine and not its negative


def test_l_bfgs_lowers_the_error_that_it_is_given(task: InversionTask) -> None:
    run = Ph2p(with_seed(task), SHORT)
    start = task.clip.embed(task.bundle.token_index.token_ids[:4])
    draw = run.denoising.sample_noise(3, 0.5, task.rng)
    assert run.error(run.optimized(start, draw), draw) < run.error(start, draw)


def test_ph2p_stops_when_the_budget_is_spent(task: InversionTask) -> None:
    mine = replace(with_seed(task), budget=Budget(max_token_passes=1))
    assert len(ph2p(mine, SHORT).prompts) == 1
    assert len(mine.history.entries) == 1


def test_a_pipeline_with_another_text_encoder_is_one_sentence(task: InversionTask, pipeline_folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="is not that of 'picturebook': give as `model`"):
        ph2p(with_seed(task, generator=str(pipeline_folders["SD 1"])), SHORT)


def test_a_text_alone_is_one_sentence(task: InversionTask) -> None:
    for name in ("ph2p", "textual-inversion"):
        with pytest.raises(InputError, match="needs an image"):
            get_method(name).run(replace(with_seed(task), images=()), get_method(name).config_type())


def test_pseudo_tokens_lower_the_loss_and_keep_to_their_seed(task: InversionTask, picturebook_reader: Path) -> None:
    generator = Generator.load(str(picturebook_reader), device="cpu")
    start = task.clip.embed(task.bundle.token_index.token_ids[:2])
    config = TextualInversionConfig(steps=12, n_samples=4, lr=0.3)
    first, again = (learn(generator, task.images, start, torch.Generator().manual_seed(3), config) for _ in range(2))
    assert torch.equal(first.embeddings, again.embeddings) and first.losses == again.losses
    assert first.embeddings.shape == start.shape and not torch.equal(first.embeddings, start)
    still = learn(generator, task.images, start, torch.Generator().manual_seed(3), replace(config, lr=0.0))
    assert sum(first.losses[6:]) < sum(still.losses[6:])  # the same draws, without learning


def test_textual_inversion_hands_back_the_soft_prompt_beside_its_nearest_words(task: InversionTask) -> None:
    mine = with_seed(task, method="textual-inversion", init_prompt="fox")
    output = textual_inversion(mine, TextualInversionConfig(steps=3, n_samples=2, lr=1e-4))
    assert output.soft is not None and output.soft.shape == (4, 192)
    assert output.prompts[0][0].split()[0] == "fox"  # three tiny steps do not leave the word
    assert len(output.projections) == 4
    assert len(mine.history.entries) == 3 and mine.budget.backward_tokens == 3 * 40


def test_diffusers_reads_saved_pseudo_tokens_as_the_rows_they_are(pipeline_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = str(pipeline_folders["SD 1"])
    generator, pipeline = Generator.load(folder, device="cpu"), StableDiffusionPipeline.from_pretrained(folder)
    rows = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    save_pseudo_tokens(rows, tmp_path / "picture.safetensors")
    pipeline.load_textual_inversion(str(tmp_path / "picture.safetensors"))
    theirs = pipeline.encode_prompt("<picture>", torch.device("cpu"), 1, False)[0]
    torch.testing.assert_close(theirs, generator.encode_embeddings([rows[None]]).hidden, atol=1e-5, rtol=0)


def test_a_path_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write"):
        save_pseudo_tokens(torch.zeros(1, 4), tmp_path / "missing" / "picture.safetensors")


def test_the_picture_is_resized_to_the_pipelines_own_size(task: InversionTask) -> None:
    run = Ph2p(replace(with_seed(task), images=(Image.new("RGB", (200, 100), "red"),)), SHORT)
    assert run.denoising.latents.shape == (1, 4, 8, 8)
