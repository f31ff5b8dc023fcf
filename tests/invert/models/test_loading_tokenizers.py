"""A tokenizer that is not the model's is refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from invert.errors import InputError
from invert.models.transformers import from_transformers
from tests.invert.models.conftest import refusal


def spoiled_tokenizer(change: Callable[[dict], None]) -> Callable[[Path], None]:
    """A spoiler of tokenizer.json."""

    def spoil(folder: Path) -> None:
        content = json.loads((folder / "tokenizer.json").read_text())
        change(content)
        (folder / "tokenizer.json").write_text(json.dumps(content))

    return spoil


def without_vocabulary(content: dict) -> None:
    model = content["model"]
    model["vocab"] = {token: i for i, token in enumerate(("<|startoftext|>", "<|endoftext|>"))}
    model["merges"], content["added_tokens"] = [], []


def with_more_tokens(content: dict) -> None:
    more = {f"<extra-{i}>": 49408 + i for i in range(3)}
    content["model"]["vocab"].update(more)


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no JSON": (lambda folder: (folder / "tokenizer.json").write_text('{"model": '), "the tokenizer of"),
    "another JSON": (lambda folder: (folder / "tokenizer.json").write_text("[]"), "the tokenizer of"),
    "no vocabulary": (spoiled_tokenizer(without_vocabulary), "the tokenizer of"),
    "too many": (spoiled_tokenizer(with_more_tokens), "knows 49411 tokens but the model only 49408"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_tokenizer_that_is_not_the_models_is_one_sentence(copied: Path, kind: str) -> None:
    spoil, problem = SPOILED[kind]
    spoil(copied)
    assert problem in refusal(copied)


def test_a_tokenizer_without_special_tokens_is_refused(transformers_clip) -> None:
    from types import SimpleNamespace

    from transformers import CLIPImageProcessor, CLIPModel

    class Plain(SimpleNamespace):
        def __call__(self, prompt: str, add_special_tokens: bool) -> dict[str, list[int]]:
            return {"input_ids": [len(word) for word in prompt.split()]}

        def __len__(self) -> int:
            return 100

    model = CLIPModel.from_pretrained(transformers_clip.name)
    for special in ({"bos_token_id": None, "eos_token_id": 5}, {"bos_token_id": 5, "eos_token_id": 5}):
        with pytest.raises(InputError, match="no start-of-text and end-of-text tokens"):
            from_transformers("mine", model, Plain(**special), CLIPImageProcessor())
