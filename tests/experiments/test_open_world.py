"""The open world: nothing of the bundled world but its weights reaches the method, and the measures measure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from experiments import open_world
from experiments.harness import english_variants
from experiments.harness.held_out_language import CharacterNgrams, mean_perplexity
from experiments.harness.pictures import OUT_OF_DOMAIN_FOLDERS, out_of_domain_pictures
from experiments.harness.runner import Context
from invert.bundle import ModelBundle
from invert.corpus import Corpus
from invert.english import bundle as english
from invert.english import corpus
from invert.errors import InputError
from invert.models.clip import Clip

WITHOUT_THE_WORLD = """
import sys
for name in ("world", "grammar", "render", "commands"):
    sys.modules[f"invert.picturebook.{name}"] = None  # importing it fails
import invert.english.bundle as english
from invert.english.tables import entries
english.CORPUS_SIZE = 300
few = entries()[:3000]
import invert.english.corpus as corpus
corpus.entries = english.entries = lambda: few
from PIL import Image
from invert.inverter import Inverter
inverter = Inverter.load("picturebook", bundle="english", device="cpu")
picture = Image.new("RGB", (64, 64), "red")
print(inverter.invert(picture, budget=3000).prompt)
print(inverter.invert(picture, method="splice").prompt)
"""


def test_the_method_finds_prompts_where_the_world_cannot_be_imported(tmp_path: Path) -> None:
    environment = {**os.environ, "INVERT_CACHE": str(tmp_path), "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", WITHOUT_THE_WORLD], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip().splitlines()) == 2


@pytest.fixture(scope="module")
def small(request: pytest.FixtureRequest) -> ModelBundle:
    """The English bundle of picturebook's CLIP with a small corpus."""
    from invert.models.loading import load_clip

    clip: Clip = load_clip("picturebook", device="cpu")
    few = english.entries()[:3000]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(english, "CORPUS_SIZE", 400)
        patch.setattr(english, "entries", lambda: few)
        patch.setattr(corpus, "entries", lambda: few)
        return english.load(clip)


def test_each_variant_lacks_what_its_name_says(small: ModelBundle) -> None:
    changed = {name: change(small) for name, change in english_variants.CHANGES.items()}
    assert changed["not-composed"].compose is None and changed["not-composed"].corpus is small.corpus
    assert all(" " not in word.text for word in changed["without-phrases"].lexicon.words)
    grounds = [text for text in small.corpus.prompts if "background" in text]
    assert grounds and not any("background" in text.split() for text in changed["without-background"].corpus.prompts)
    assert len(changed["without-corpus"].corpus.prompts) == 1 and changed["without-corpus"].prior is small.prior
    assert small.prior.log_shares and not changed["without-frequencies"].prior.log_shares
    assert changed["own-lists"].labels.mediums and changed["own-lists"].labels.flavors


def test_every_entry_has_its_bundle_and_its_own_name() -> None:
    names = [entry.name for methods in open_world.ENTRIES.values() for entry in methods]
    assert len(names) == len(set(names))
    for bundle in open_world.ENTRIES:
        assert bundle in ("english", "generic") or bundle.removeprefix("english-") in english_variants.CHANGES


def test_words_that_english_lacks_are_counted() -> None:
    assert open_world.non_words(["a red fox, in the snow", "a kered fox"]) == 0.5


def test_frames_are_looked_for_by_the_words_that_join(small: ModelBundle) -> None:
    from dataclasses import replace

    from invert.inverter import Inverter
    from invert.picturebook.grammar import caption
    from invert.picturebook.world import draw_scenes

    known = Corpus(tuple(caption(scene) for scene in draw_scenes(open_world.CAPTIONS, 0, "held-out")))
    assert open_world.frames_held(Inverter(replace(small, corpus=known)), 0) == {"of captions": 1.0, "of distinct frames": 1.0}
    nothing = open_world.frames_held(Inverter(replace(small, corpus=Corpus(("fox",)))), 0)
    assert nothing["of captions"] < 0.2


def test_the_held_out_language_prefers_english_to_torn_words() -> None:
    assert mean_perplexity(["the light of the other"]) < mean_perplexity(["thel ightoft heoth er"]) - 1
    model = CharacterNgrams("ab ab ab", order=2)
    assert sum(model.probability("a", c) for c in "abcdefghijklmnopqrstuvwxyz ") == pytest.approx(1)
    assert model.perplexity("") == 1.0 or model.perplexity("") > 0


def test_unknown_methods_and_a_run_without_ours_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    context = Context("open-world", tmp_path, True, 0, torch.device("cpu"))
    monkeypatch.setenv("OPEN_WORLD_METHODS", "english,magic")
    with pytest.raises(InputError, match="unknown 'magic'"):
        open_world.extent(context)
    monkeypatch.setenv("OPEN_WORLD_METHODS", "pez")
    with pytest.raises(InputError, match="add 'english'"):
        open_world.extent(context)


def test_a_kind_of_pictures_can_be_run_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPEN_WORLD_KINDS", "clip-art")
    pictures, _, _ = open_world.extent(Context("open-world", tmp_path, True, 0, torch.device("cpu")))
    assert [picture.kind for picture in pictures] == ["clip-art"]


def test_there_are_pictures_of_every_kind() -> None:
    for kind in OUT_OF_DOMAIN_FOLDERS:
        (picture,) = out_of_domain_pictures(1, kind)
        assert picture.kind == kind and picture.scene.objects
