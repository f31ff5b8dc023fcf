"""The methods that learn a prompt through the denoiser: PH2P and textual inversion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from invert.config import InvertConfig
from invert.diffusion.generator import Generator, to_pil
from invert.diffusion.pseudo_tokens import save_pseudo_tokens
from invert.diffusion.textual_inversion import TextualInversionConfig, learn
from invert.errors import InputError
from invert.meter import Meter
from invert.methods import Problem, get_method
from invert.methods.ph2p import Ph2p, Ph2pConfig, ph2p
from invert.methods.textual_inversion import textual_inversion
from invert.models.clip import Clip
from invert.picturebook.render import render
from invert.picturebook.world import draw_scenes
from invert.vocabulary import Vocabulary, build_vocabulary

SHORT = Ph2pConfig(rounds=2, iterations=3, n_samples=3, n_eval_samples=4)


@pytest.fixture(scope="module")
def vocabulary(picturebook: Clip) -> Vocabulary:
    return build_vocabulary(picturebook)


@pytest.fixture
def problem(picturebook: Clip, vocabulary: Vocabulary, picturebook_reader: Path) -> Problem:
    images = tuple(to_pil(render(draw_scenes(1, 5), 64)))
    config = InvertConfig(method="ph2p", tokens=4, restarts=2, top=3, generator=str(picturebook_reader))
    target = picturebook.encode_image(images)[0]
    return Problem(picturebook, target, vocabulary, config, torch.Generator().manual_seed(0), Meter(), images)


def with_seed(problem: Problem, seed: int = 0, **options: object) -> Problem:
    """The same problem with a meter and rng of its own."""
    config = replace(problem.config, **options)  # type: ignore[arg-type]
    return replace(problem, config=config, generator=torch.Generator().manual_seed(seed), meter=Meter())


def test_ph2p_gives_words_of_the_vocabulary_the_same_for_the_same_seed(problem: Problem) -> None:
    first, again = ph2p(with_seed(problem), SHORT), ph2p(with_seed(problem), SHORT)
    assert first.prompts == again.prompts
    allowed = set(problem.vocabulary.token_ids.tolist())
    for prompt, cosine in first.prompts:
        assert allowed.issuperset(problem.clip.tokenizer.encode(prompt))
        latent = problem.clip.encode_text([prompt])[0]
        assert cosine == pytest.approx(float(latent @ problem.target), abs=1e-4)
    assert ph2p(with_seed(problem, seed=1), SHORT).prompts != first.prompts


def test_ph2p_puts_the_lowest_denoising_error_first_and_offers_it(problem: Problem) -> None:
    mine = with_seed(problem)
    prompts = [prompt for prompt, _ in ph2p(mine, SHORT).prompts]
    errors = {step.prompt: -step.score for step in mine.meter.trace if step.prompt}
    assert prompts[0] == min(errors, key=lambda prompt: errors[prompt]) == mine.meter.best_prompt
    assert mine.meter.best_value == -min(errors.values())


def test_l_bfgs_lowers_the_error_that_it_is_given(problem: Problem) -> None:
    run = Ph2p(with_seed(problem), SHORT)
    start = problem.clip.embed(problem.vocabulary.token_ids[:4])
    draw = run.denoising.sample_noise(3, 0.5, problem.generator)
    assert run.error(run.optimized(start, draw), draw) < run.error(start, draw)


def test_ph2p_stops_when_the_budget_is_spent(problem: Problem) -> None:
    mine = replace(with_seed(problem), meter=Meter(max_token_passes=1))
    assert len(ph2p(mine, SHORT).prompts) == 1
    assert len(mine.meter.trace) == 1


def test_a_pipeline_with_another_text_encoder_is_one_sentence(problem: Problem, pipeline_folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="is not that of 'picturebook': give with --model"):
        ph2p(with_seed(problem, generator=str(pipeline_folders["SD 1"])), SHORT)


def test_a_text_alone_is_one_sentence(problem: Problem) -> None:
    for name in ("ph2p", "textual-inversion"):
        with pytest.raises(InputError, match="needs an image"):
            get_method(name)(replace(with_seed(problem), images=()))


def test_pseudo_tokens_lower_the_loss_and_keep_to_their_seed(problem: Problem, picturebook_reader: Path) -> None:
    generator = Generator.load(str(picturebook_reader), device="cpu")
    start = problem.clip.embed(problem.vocabulary.token_ids[:2])
    config = TextualInversionConfig(steps=12, n_samples=4, lr=0.3)
    first, again = (learn(generator, problem.images, start, torch.Generator().manual_seed(3), config) for _ in range(2))
    assert torch.equal(first.embeddings, again.embeddings) and first.losses == again.losses
    assert first.embeddings.shape == start.shape and not torch.equal(first.embeddings, start)
    still = learn(generator, problem.images, start, torch.Generator().manual_seed(3), replace(config, lr=0.0))
    assert sum(first.losses[6:]) < sum(still.losses[6:])  # the same draws, without learning


def test_textual_inversion_hands_back_the_soft_prompt_beside_its_nearest_words(problem: Problem) -> None:
    mine = with_seed(problem, method="textual-inversion", init_prompt="fox")
    solution = textual_inversion(mine, TextualInversionConfig(steps=3, n_samples=2, lr=1e-4))
    assert solution.soft is not None and solution.soft.shape == (4, 192)
    assert solution.prompts[0][0].split()[0] == "fox"  # three tiny steps do not leave the word
    assert len(solution.projections) == 4
    assert len(mine.meter.trace) == 3 and mine.meter.backward_tokens == 3 * 40


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


def test_the_picture_is_resized_to_the_pipelines_own_size(problem: Problem) -> None:
    run = Ph2p(replace(with_seed(problem), images=(Image.new("RGB", (200, 100), "red"),)), SHORT)
    assert run.denoising.latents.shape == (1, 4, 8, 8)
