"""Every way of `soft-draw` to find a soft prompt: one picture and its prompts in, what the generator's denoiser reads out.

`VARIANTS` names them. Those of CLIP alone descend on the cosine with the picture's latent, started at words and held
near them in one way or another; those through the denoiser descend on its error, or on what a short sampling run draws.
No variant looks at the judge or at the seeds that images are drawn with later.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.functional import to_tensor

from experiments.harness.back_and_forth import back_and_forth, chosen_by_error
from experiments.harness.soft_subjects import Subject, Variant, best, descend_from_random, polished
from invert.config import SoftConfig
from invert.diffusion.denoising import Denoising
from invert.diffusion.generator import Conditioning
from invert.diffusion.polish import Cases, Descent, whole_context
from invert.diffusion.roundtrip import color_distance, fitted, for_comparison, pixel_distance

CLIP_STEPS, CLIP_LR = 80, 0.05  # of variants on CLIP alone; in units of the token table's spread
COPIES = 4  # of a prompt, each disturbed in its own way
FRAMES = ("", "a picture of", "a pixel art picture of", "a black and white picture of")
CHOICE_SEEDS = range(1000, 1004)  # none that images are compared by
SAMPLER_STEPS, SAMPLER_IMAGES, SAMPLER_DESCENT = 4, 2, 12


# CLIP alone ---------------------------------------------------------------------------------------


def rounded(subject: Subject) -> Tensor:
    bundle = subject.lab.inverter.bundle
    return bundle.clip.embed(bundle.token_index.nearest(best(subject.mixture), 1)[0][:, 0])


@dataclass(frozen=True)
class Near:
    """How a descent on CLIP's cosine is kept near its start.

    Attributes:
        radius: of the trust region of every row, in word distances; None for no limit.
        rank: of the offset from the start, None for any.
        noise: on the embeddings, in word distances.
        dropped: share of the tokens that each copy lacks.
        framed: whether the prompt is also read after other words.
        states: weight of the hidden states' distance from those of captions.
    """

    radius: float | None = None
    rank: int | None = None
    noise: float = 0.0
    dropped: float = 0.0
    framed: bool = False
    states: float = 0.0


def on_clip(subject: Subject, start: Tensor, near: Near) -> Tensor:
    """Token embeddings (L, D) after Adam on the cosine with the picture's latent."""
    lab, rng = subject.lab, subject.rng()
    n_rows, width = start.shape
    spread = float(lab.inverter.bundle.token_index.embeddings.std())
    shapes = ((n_rows, width),) if near.rank is None else ((n_rows, near.rank), (near.rank, width))
    parts = [0.1 * spread * torch.randn(shape, generator=rng) if near.rank else torch.zeros(shape) for shape in shapes]
    if near.rank:
        parts[0].zero_()  # the offset begins at zero, and its gradient does not
    optimizer = torch.optim.Adam([part.requires_grad_(True) for part in parts], lr=CLIP_LR * spread)
    for step in range(CLIP_STEPS):
        optimizer.param_groups[0]["lr"] = CLIP_LR * spread * 0.5 * (1 + math.cos(math.pi * step / CLIP_STEPS))
        offset = parts[0] if near.rank is None else parts[0] @ parts[1]
        loss = clip_loss(subject, start + offset, near, rng)
        for part, gradient in zip(parts, torch.autograd.grad(loss, parts), strict=True):
            part.grad = gradient
        optimizer.step()
        if near.radius is not None:
            with torch.no_grad():
                parts[0].copy_(parts[0].renorm(2, 0, near.radius * lab.word_distance))
    return start + (parts[0] if near.rank is None else parts[0] @ parts[1]).detach()


def clip_loss(subject: Subject, embeddings: Tensor, near: Near, rng: torch.Generator) -> Tensor:
    """One minus the mean cosine over the prompt's disturbed copies, and the price of unusual hidden states."""
    lab, clip = subject.lab, subject.lab.inverter.clip
    copies = [embeddings]
    if near.noise:
        scale = near.noise * lab.word_distance / embeddings.shape[1] ** 0.5
        copies += [embeddings + scale * torch.randn(embeddings.shape, generator=rng) for _ in range(COPIES)]
    if near.dropped:
        kept = max(1, round(len(embeddings) * (1 - near.dropped)))
        copies += [embeddings[torch.randperm(len(embeddings), generator=rng)[:kept].sort().values] for _ in range(COPIES)]
    if near.framed:
        copies += [torch.cat([subject.rows(frame), embeddings]) for frame in FRAMES[1:]]
    latents = torch.cat([clip.encode_embeddings(clip.add_special_embeddings(copy[None])) for copy in copies])
    loss = 1 - (latents @ subject.target).mean()
    return loss + near.states * lab.states.excess(embeddings) if near.states else loss


def near_words(near: Near, start: str = "hard") -> Variant:
    return lambda subject: on_clip(subject, subject.rows(getattr(subject, start)), near)


# Through the denoiser -----------------------------------------------------------------------------


class WithClip(Descent):
    """The denoising error together with CLIP's own loss."""

    subject: Subject
    weight = 0.1

    def error(self, embeddings: Tensor, cases: Cases) -> Tensor:
        return super().error(embeddings, cases) + self.weight * clip_loss(self.subject, embeddings, Near(), self.subject.rng())


class OfHiddenStates(Descent):
    """Hidden states of the text encoder themselves are what moves."""

    def error(self, embeddings: Tensor, cases: Cases) -> Tensor:
        conditioning = Conditioning(embeddings[None])
        return self.denoising.loss(conditioning, cases.batch, self.config.guidance, cases.unconditional)[0]


class Sampled(Descent):
    """What a short sampling run draws, compared with the picture: as latents, or by CLIP's latent of the image."""

    subject: Subject
    by_clip = False

    @cached_property
    def noise(self) -> Tensor:
        shape = (SAMPLER_IMAGES, *self.denoising.latents.shape[1:])
        return torch.randn(shape, generator=torch.Generator().manual_seed(self.subject.lab.seed + 10_000))

    def error(self, embeddings: Tensor, cases: Cases) -> Tensor:
        pipeline = self.generator.pipeline
        hidden = self.generator.encode_embeddings([embeddings[None]]).hidden.expand(SAMPLER_IMAGES, -1, -1)
        plain = self.generator.encode([""]).hidden.expand(SAMPLER_IMAGES, -1, -1)
        pipeline.scheduler.set_timesteps(SAMPLER_STEPS)
        x = self.noise
        for t in pipeline.scheduler.timesteps:
            without = pipeline.unet(x, t, encoder_hidden_states=plain).sample
            told = pipeline.unet(x, t, encoder_hidden_states=hidden).sample
            x = pipeline.scheduler.step(without + self.generator.config.guidance * (told - without), t, x).prev_sample
        if not self.by_clip:
            return (x - self.denoising.latents).square().mean()
        image = (pipeline.vae.decode(x / pipeline.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
        clip = self.subject.lab.inverter.clip
        return 1 - (F.normalize(clip.visual(clip.normalize(image)), dim=-1) @ subject_image(self.subject)).mean()


def subject_image(subject: Subject) -> Tensor:
    return subject.lab.inverter.clip.encode_image([subject.picture.image])[0]


class SampledByClip(Sampled):
    by_clip = True


def descended(
    subject: Subject, kind: type[Descent] = Descent, start: Tensor | None = None, checked: bool = True, **changes: object
) -> Tensor:
    """As `polished`, with another descent; checked: keep the average that is best on held-out noises, else the last iterate."""
    lab = subject.lab
    config = replace(lab.config, **changes)  # type: ignore[arg-type]
    rows = whole_context(lab.generator, subject.rows(subject.hard)) if start is None else start
    kind = type(kind.__name__, (kind,), {"subject": subject})
    descent = kind(lab.generator, Denoising(lab.generator, [subject.picture.image]), rows, config, subject.rng())
    for step in range(config.steps):
        descent.step(step)
        if checked and (step + 1) % config.check_every == 0:
            descent.check()
    if not checked:
        return descent.embeddings.detach()
    descent.check()
    return descent.best


def own_similarity(subject: Subject, drawn: Tensor) -> Tensor:
    """Cosine (N,) of drawings with the picture under the CLIP that the prompt was searched with."""
    clip = subject.lab.inverter.clip
    return clip.encode_image(fitted(drawn, clip.image_size)) @ subject.target


def minus_distance(subject: Subject, drawn: Tensor) -> Tensor:
    """Minus the distance (N,) of drawings from the picture: of pixels plus of colors."""
    shown, wanted = (for_comparison(x) for x in (drawn, to_tensor(subject.picture.image)[None]))
    return -(pixel_distance(shown, wanted) + color_distance(shown, wanted))


@torch.no_grad()
def chosen_by_drawing(subject: Subject, score: Callable[[Subject, Tensor], Tensor]) -> Tensor:
    """The prompt's rows, or of the averages that polishing checks the one, whose drawings score best."""
    candidates: list[Tensor] = []

    class Kept(Descent):
        def held_out_error(self, embeddings: Tensor) -> float:
            candidates.append(embeddings.clone())
            return super().held_out_error(embeddings)

    with torch.enable_grad():
        descended(subject, Kept)
    conditioning = subject.lab.generator.encode_embeddings([torch.stack(candidates)])
    drawn = subject.lab.generator.generate(conditioning, CHOICE_SEEDS)  # (K, S, 3, H, W)
    scores = score(subject, drawn.flatten(0, 1)).view(drawn.shape[:2])
    return candidates[int(scores.mean(1).argmax())]


def fresh_noises(subject: Subject) -> Tensor:
    """New noises and timesteps at every step, as textual inversion has them."""

    class Fresh(Descent):
        def step(self, step: int) -> float:
            self.noises = self.sampled(self.config.n_samples, self.fresh)
            return super().step(step)

        fresh = torch.Generator().manual_seed(subject.lab.seed + 20_000)

    return descended(subject, Fresh)


def hidden_states(subject: Subject) -> Tensor:
    return descended(subject, OfHiddenStates, start=subject.lab.generator.encode([subject.hard]).hidden[0].clone())


TRUTH, HARD, POLISHED, ON_CLIP = "true caption", "hard prompt", "polished", "near words, on CLIP"
MAIN: dict[str, Variant] = {
    TRUTH: lambda subject: subject.rows(subject.picture.truth),
    HARD: lambda subject: subject.rows(subject.hard),
    ON_CLIP: near_words(Near(radius=0.1, noise=0.25)),
    POLISHED: polished,
}
AS_TODAY: dict[str, Variant] = {
    "retrieved caption": lambda subject: subject.rows(subject.retrieved),
    "soft, free": lambda subject: best(
        descend_from_random(subject, SoftConfig(parameterization="continuous", steps=80, lr=0.05), 1)
    ),
    "soft, mixture": lambda subject: best(subject.mixture),
    "soft, mixture rounded": rounded,
}
TRIED: dict[str, Variant] = {
    "on CLIP from words, free": near_words(Near()),
    "on CLIP, within 0.25 word distances": near_words(Near(radius=0.25)),
    "on CLIP, within 0.1 word distances": near_words(Near(radius=0.1)),
    "on CLIP, offset of rank 1": near_words(Near(rank=1)),
    "on CLIP, noise on embeddings": near_words(Near(noise=0.5)),
    "on CLIP, dropped tokens": near_words(Near(dropped=0.15)),
    "on CLIP, several frames": near_words(Near(framed=True)),
    "on CLIP, states of captions": near_words(Near(states=0.1)),
    "on CLIP from the retrieved caption, within 0.25": near_words(Near(radius=0.25), "retrieved"),
    "soft mixture, then states of captions": lambda subject: on_clip(subject, best(subject.mixture), Near(states=0.1)),
    "polished, the words' rows alone": lambda subject: descended(subject, start=subject.rows(subject.hard)),
    "polished, neither averaged nor checked": lambda subject: descended(subject, checked=False),
    "polished, chosen by own CLIP of drawings": lambda subject: chosen_by_drawing(subject, own_similarity),
    "polished, chosen by pixels and colors": lambda subject: chosen_by_drawing(subject, minus_distance),
    "polished, fresh noises": fresh_noises,
    "polished, all timesteps": lambda subject: descended(subject, timestep_fraction=1.0),
    "polished, noisiest half": lambda subject: descended(subject, timestep_fraction=0.5),
    "polished, rate 0.3": lambda subject: descended(subject, lr=0.3),
    "polished, with CLIP's loss": lambda subject: descended(subject, WithClip),
    "polished, guided prediction": lambda subject: descended(subject, guidance=1.5),
    "polished, as guided as sampling": lambda subject: descended(subject, guidance=subject.lab.generator.config.guidance),
    "polished from the retrieved caption": lambda subject: polished(subject, subject.rows(subject.retrieved)),
    "polished from the soft mixture": lambda subject: polished(subject, best(subject.mixture)),
    "searched again, chosen by denoising error": lambda subject: subject.rows(chosen_by_error(subject)),
    "back and forth, words": lambda subject: subject.rows(back_and_forth(subject)),
    "back and forth, polished": lambda subject: polished(subject, subject.rows(back_and_forth(subject))),
    "sampler of 4 steps, error of latents": lambda subject: descended(subject, Sampled, checked=False, steps=SAMPLER_DESCENT),
    "sampler of 4 steps, CLIP of images": lambda subject: descended(subject, SampledByClip, checked=False, steps=SAMPLER_DESCENT),
}
OF_STATES: dict[str, Variant] = {"hidden states polished": hidden_states}  # give hidden states (T, D), not embeddings
