"""Joined models: the latents of each are its own library's, and a score is the weighted mean of their cosines."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image
from torch import Tensor

from invert.budget import Budget
from invert.bundle import ModelBundle
from invert.errors import InputError
from invert.inverter import Inverter
from invert.lexicon import ENGLISH_FUNCTION_WORDS, Lexicon, Word
from invert.methods.configs import GcgConfig, PezConfig
from invert.models.clip import Clip
from invert.models.joint import join
from invert.models.loading import joined_names, load_clip
from invert.models.names import ALIASES
from invert.models.open_clip import from_open_clip
from invert.scorer import PromptScorer
from tests.invert.conftest import Adapted, ToyTokenizer, open_clip_config, random_open_clip, rough, saved_folder, with_open_clip

PROMPTS = ["a fox", "", "two owls on a striped blue and white background, pencil sketch"]


@pytest.fixture(scope="module")
def parts(transformers_clip: Adapted, tmp_path_factory: pytest.TempPathFactory) -> tuple[Adapted, Adapted]:
    """A model that open_clip saved and one that transformers saved, of different widths and depths."""
    model, folder = saved_folder(tmp_path_factory.mktemp("wide"), width=64, heads=4, layers=2, quick_gelu=True)
    return transformers_clip, with_open_clip(str(folder), model)


@pytest.fixture(scope="module")
def joint(parts: tuple[Adapted, Adapted]) -> Clip:
    return load_clip("+".join(part.name for part in parts), device="cpu", weights=(3, 1))


def toy(seed: int, width: int) -> Clip:
    from open_clip.model import CLIP

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = rough(CLIP(**open_clip_config(width=width, heads=2, layers=2, quick_gelu=True, vocab=64))).double()
    return from_open_clip(f"toy-{seed}", model, open_clip.image_transform(32, is_train=False), tokenizer=ToyTokenizer())


def toy_inverter(clip: Clip) -> Inverter:
    words = tuple(Word(f"w{i}", (i,)) for i in range(62))
    return Inverter(ModelBundle("toy", clip, Lexicon(words, ENGLISH_FUNCTION_WORDS, clip.tokenizer.encode)))


def test_scores_are_the_weighted_mean_of_the_libraries_own_cosines(parts, joint: Clip) -> None:
    picture = Image.effect_noise((40, 32), 90).convert("RGB")
    with torch.no_grad():
        cosines = []
        for part in parts:
            pixels = part.clip.preprocess(picture)[None]
            cosines.append(part.encode_text(PROMPTS) @ part.encode_image(pixels)[0])
    expected = 0.75 * cosines[0] + 0.25 * cosines[1]
    target = joint.encode_image([picture])[0]
    torch.testing.assert_close(joint.encode_text(PROMPTS) @ target, expected, atol=1e-5, rtol=0)
    scorer = PromptScorer(joint, target, Budget())
    torch.testing.assert_close(torch.tensor([scorer.score_text(prompt) for prompt in PROMPTS]), expected, atol=1e-5, rtol=0)
    names = [part.name for part in parts]
    found = joint.model_scores(PROMPTS, target)[PROMPTS[0]]
    assert found == pytest.approx({n: float(c[0]) for n, c in zip(names, cosines, strict=True)}, abs=1e-5)


def test_pixels_read_as_the_picture_that_they_are(parts, joint: Clip) -> None:
    pixels = torch.randint(0, 256, (3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    torch.testing.assert_close(joint.encode_image(pixels[None] / 255), joint.encode_image([picture]), atol=1e-5, rtol=0)


def test_models_of_different_image_sizes_are_joined(picturebook: Clip, parts) -> None:
    both = join([picturebook_copy(picturebook), parts[1].clip])
    picture = Image.effect_noise((64, 64), 90).convert("RGB")
    expected = torch.cat([picturebook.encode_image([picture]), parts[1].clip.encode_image([picture])], 1) * 0.5**0.5
    torch.testing.assert_close(both.encode_image([picture]), expected)
    assert both.encode_image(torch.rand(2, 3, 64, 64)).shape == expected.repeat(2, 1).shape


def picturebook_copy(clip: Clip) -> Clip:
    """Joining gives towers their rows anew; the session's model keeps its own."""
    return load_clip(clip.name, device="cpu")


def test_a_shared_prefix_changes_nothing(joint: Clip) -> None:
    ids, eot = joint.tokenize(["a red fox in the snow", "a red owl on a tree at night"])
    with torch.no_grad():
        whole = joint.tower.encode(joint.embed(ids), eot)
        cache = joint.tower.prefix(joint.embed(ids[0, :3]))
        rest = joint.tower.encode_with_prefix(cache, joint.embed(ids[:, 3:]), eot - 3)
    torch.testing.assert_close(rest, whole, atol=1e-5, rtol=0)


def test_gradients_pass_the_numerical_check_in_float64() -> None:
    clip = join([toy(0, 16), toy(1, 32)], (2, 1))
    embeddings = clip.embed(torch.tensor([[3, 9, 40]])).requires_grad_(True)
    target = torch.nn.functional.normalize(torch.arange(24, dtype=torch.float64), dim=0)

    def score(e: Tensor) -> Tensor:
        return clip.encode_prompt_embeddings(e) @ target

    assert torch.autograd.gradcheck(score, embeddings, fast_mode=True)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("gcg", {"method_config": GcgConfig(steps=3, search_width=16)}),
        ("pez", {"method_config": PezConfig(steps=5)}),
        ("nearest", {}),
        ("random", {"budget": 500}),
        ("retrieve", {"corpus": ("w1 w2", "w3 w4")}),
        ("invert", {"corpus": ("w1 w2", "w3 w4")}),
    ],
)
def test_methods_run_on_joined_models_and_pay_for_both_text_encoders(
    method: str, options: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path))
    picture = Image.effect_noise((32, 32), 90).convert("RGB")
    settings = {"method": method, "tokens": 3, "restarts": 2, "soft_steps": 3, "max_tokens": 6, **options}
    # Two models that are one model twice find what it finds, at twice the cost.
    once, twice = toy_inverter(toy(0, 16)), toy_inverter(join([toy(0, 16), toy(0, 16)]))
    alone = once.invert(picture, **settings)
    both = twice.invert(picture, **{**settings, "budget": None if "budget" not in options else 2 * options["budget"]})
    near = {"abs": 1e-3} if method == "retrieve" else {}  # a corpus's latents are kept in half precision
    assert both.prompt == alone.prompt and both.score == pytest.approx(alone.score, **near)
    assert both.forward_tokens == 2 * alone.forward_tokens and both.backward_tokens == 2 * alone.backward_tokens
    assert list(both.model_scores[both.prompt].values()) == [pytest.approx(alone.score, **near)]  # of one name
    assert not alone.model_scores


def test_models_that_read_other_tokens_are_refused(parts) -> None:
    with pytest.raises(InputError, match="read text as different tokens"):
        join([random_toy(), parts[0].clip])


def test_pictures_that_are_no_squares_are_refused(family_of) -> None:
    square, naflex = (family_of(family).folder for family in ("SigLIP 2", "SigLIP 2 NaFlex"))
    with pytest.raises(InputError, match="reads pictures as patches of their own shape, which cannot be joined"):
        load_clip(f"{square}+{naflex}", device="cpu")


def random_toy() -> Clip:
    model = random_open_clip(width=16, heads=2, layers=1, quick_gelu=True, vocab=64)
    return from_open_clip("toy", model, open_clip.image_transform(32, is_train=False), tokenizer=ToyTokenizer())


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 2.0, 3.0), (1.0, 0.0), (1.0, float("nan"))])
def test_weights_have_to_fit_the_models(weights) -> None:
    with pytest.raises(InputError, match="`model_weights`"):
        join([toy(0, 16), toy(1, 16)], weights)


def test_weights_of_one_model_are_refused() -> None:
    with pytest.raises(InputError, match="leave them out for one model"):
        load_clip("picturebook", device="cpu", weights=(1.0,))


def test_a_plus_joins_names_unless_it_is_part_of_a_files(tmp_path: Path) -> None:
    assert joined_names(ALIASES["sdxl"]) == ["ViT-L-14/openai", "ViT-bigG-14/laion2b_s39b_b160k"]
    (tmp_path / "a+b").mkdir()
    (tmp_path / "a+b.pt").touch()
    assert joined_names(str(tmp_path / "a+b")) == [str(tmp_path / "a+b")]
    assert joined_names(f"ViT-B-32/{tmp_path}/a+b.pt") == [f"ViT-B-32/{tmp_path}/a+b.pt"]
    assert joined_names("picturebook+picturebook-judge") == ["picturebook", "picturebook-judge"]
    assert joined_names("sdxl+picturebook") == [*ALIASES["sdxl"].split("+"), "picturebook"]
    both = joined_names(f"{tmp_path}/a+b+picturebook+ViT-B-32{tmp_path}/a+b.pt")  # the last without its root's slash
    assert both == [f"{tmp_path}/a+b", "picturebook", f"ViT-B-32{tmp_path}/a+b.pt"]
