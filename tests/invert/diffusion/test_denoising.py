"""The denoising loss: what diffusion training minimizes, asked of a prompt."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from invert.diffusion.denoising import Denoising
from invert.diffusion.generator import Generator
from invert.errors import InputError

RED = Image.new("RGB", (20, 20), "red")
BLUE = Image.new("RGB", (30, 16), "blue")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", ["SD 1", "SD 2"])
def test_the_loss_is_the_error_of_the_predicted_noise_or_velocity(generators: dict[str, Generator], kind: str) -> None:
    generator = generators[kind]
    denoising = Denoising(generator, [RED, BLUE])
    draw, said = denoising.sample_noise(5, 1.0, rng()), generator.encode(["a fox", "two owls"])
    kept = generator.pipeline.scheduler.alphas_cumprod[draw.timesteps][:, None, None, None]  # ᾱ
    noisy = kept.sqrt() * draw.latents + (1 - kept).sqrt() * draw.noise
    velocity = kept.sqrt() * draw.noise - (1 - kept).sqrt() * draw.latents
    wanted = draw.noise if kind == "SD 1" else velocity
    for prompt, loss in enumerate(denoising.loss(said, draw)):
        hidden = said.hidden[[prompt] * 5]
        answer = generator.pipeline.unet(noisy, draw.timesteps, encoder_hidden_states=hidden).sample
        torch.testing.assert_close(loss, (answer - wanted).square().mean())


def test_timesteps_come_evenly_from_the_noisy_share(generators: dict[str, Generator]) -> None:
    denoising = Denoising(generators["SD 1"], [RED])
    late = denoising.sample_noise(10, 0.5, rng()).timesteps
    assert (late >= 500).all()
    assert (late.sort().values // 50 == torch.arange(10, 20)).all()  # one in each tenth of the share
    assert denoising.sample_noise(10, 1.0, rng()).timesteps.min() < 100


def test_the_same_luck_draws_the_same_cases_and_covers_every_image(generators: dict[str, Generator]) -> None:
    denoising = Denoising(generators["SD 1"], [RED, BLUE])
    first, again, other = (denoising.sample_noise(16, 1.0, rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(first.noise, again.noise) and torch.equal(first.timesteps, again.timesteps)
    assert not torch.equal(first.noise, other.noise)
    assert len(first.latents.unique(dim=0)) == 2


def test_sdxl_and_no_image_are_one_sentence_each(generators: dict[str, Generator]) -> None:
    with pytest.raises(InputError, match="two text encoders"):
        Denoising(generators["SDXL"], [RED])
    with pytest.raises(InputError, match="needs an image"):
        Denoising(generators["SD 1"], [])
