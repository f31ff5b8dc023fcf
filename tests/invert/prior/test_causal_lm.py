"""A causal language model beside the prior: a small GPT-2 that is trained here in a moment, through the real loader."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import invert.cli
from invert.bundle import ModelBundle
from invert.corpus import Corpus
from invert.errors import InputError
from invert.inverter import Inverter
from invert.prior.causal_lm import CausalLanguageModel, load_language_model
from invert.prior.rescoring import Rescorer
from invert.prior.text_tree import TextTree, trees

FAST = {"soft_steps": 2, "restarts": 1, "tokens": 4, "max_tokens": 6, "seed": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of one layer that has learned to count: "w3 w4 w5", its tokenizer one of pieces, not the toy model's."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    letters = ["w", "Ġ", *"0123456789", *"abcdefghijklmnopqrstuvxyz"]
    vocabulary = {piece: i for i, piece in enumerate(["<end>", *letters, "Ġw"])}
    inner = Tokenizer(BPE(vocabulary, [("Ġ", "w")]))
    inner.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<end>", eos_token="<end>")
    torch.manual_seed(0)  # transformers takes no generator
    size = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 64, "vocab_size": len(vocabulary)}
    model = GPT2LMHeadModel(GPT2Config(**size, bos_token_id=0, eos_token_id=0))
    rows = [[0, *tokenizer(" ".join(f"w{n}" for n in range(i, i + 4)))["input_ids"], 0] for i in range(6)]
    ids = torch.tensor(rows)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        model(ids, labels=ids).loss.backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("gpt2")
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def language(folder: Path) -> CausalLanguageModel:
    return load_language_model(str(folder), torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def toy(toy_bundle: ModelBundle) -> ModelBundle:
    return replace(toy_bundle, corpus=Corpus(("w1 w2 w3 w4", "w2 w3 w4 w5"), teaches_prior=False))


def one_by_one(language: CausalLanguageModel, text: str) -> float:
    """log p of a text, token by token, and then of any end."""
    ids = [*language.begin, *language.encode(text)]
    log_p = language.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    steps = sum(float(log_p[i, token]) for i, token in enumerate(ids[1:]))
    return steps + float(log_p[-1, language.ends].logsumexp(0))


@torch.no_grad()
def test_a_model_that_overflows_says_so(language: CausalLanguageModel) -> None:
    overflowing = CausalLanguageModel("mine", copy.deepcopy(language.model).half(), language.tokenizer)
    overflowing.model.transformer.ln_f.weight.fill_(6e4)
    for by_mask in (True, False):
        overflowing.reads_trees = by_mask
        for asked in (overflowing.log_probs, lambda texts: overflowing.next_log_probs([texts])):
            with pytest.raises(InputError, match=r'float16 overflows in the language model .mine.: take `dtype="bfloat16"`'):
                asked(["w1"])


def test_log_p_in_batches_with_shared_beginnings_is_that_of_each_text_alone(language: CausalLanguageModel) -> None:
    texts = ["w1 w2 w3", "w1 w2 w4", "w1 w2 w3 w4", "w1 w2", "w5", "w2 w1", "w1 w2 w3"]
    before = language.positions
    found = language.log_probs(texts)
    expected = torch.tensor([one_by_one(language, text) for text in texts], dtype=torch.float64)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    spent = language.positions - before
    assert spent < sum(len(language.encode(text)) + 1 for text in texts)
    language.log_probs(texts)
    assert language.positions - before == spent  # what is known is not run again


class WithoutTrees(torch.nn.Module):
    """A language model that takes no mask of its own for every token: by its arguments, or because it ignores one."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.device, self.dtype = model, model.device, model.dtype

    def get_output_embeddings(self) -> Any:
        return self.model.get_output_embeddings()

    def forward(self, ids: torch.Tensor, attention_mask: torch.Tensor, use_cache: bool) -> Any:
        return self.model(ids, attention_mask=attention_mask, use_cache=use_cache)


class Ignoring(WithoutTrees):
    def forward(self, ids: torch.Tensor, attention_mask: torch.Tensor, use_cache: bool, position_ids: Any = None) -> Any:
        return self.model(ids, attention_mask=attention_mask if attention_mask.ndim == 2 else None, use_cache=use_cache)


@pytest.mark.parametrize("kind", [WithoutTrees, Ignoring])
def test_a_model_that_takes_no_tree_is_found_out_and_reads_texts_one_by_one(language: CausalLanguageModel, kind: Any) -> None:
    other = CausalLanguageModel("other", kind(language.model), language.tokenizer)
    assert language.reads_trees and not other.reads_trees and other.positions == 0
    texts = ["w1 w2 w3", "w1 w2 w4", "w5"]
    torch.testing.assert_close(other.log_probs(texts), language.log_probs(texts), atol=1e-4, rtol=1e-4)
    for found, expected in zip(other.next_log_probs([["w1", "w2"]]), language.next_log_probs([["w1", "w2"]]), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_texts_are_trees_of_their_beginnings() -> None:
    rows = [(1, 2), (1, 2, 3), (1, 2, 4, 5), (6, 2)]
    tree = TextTree(rows)
    assert [[tree.ids[node] for node in path] for path in tree.paths] == [list(row) for row in rows]
    assert len(tree) == 7 and tree.ancestors.sum(1).tolist() == [depth + 1 for depth in tree.depths]
    parts = list(trees(rows, 5))
    assert [row for part in parts for row in part.rows] == rows and [len(part) for part in parts] == [5, 2]


def test_in_bfloat16_texts_are_about_as_likely(folder: Path, language: CausalLanguageModel) -> None:
    texts = ["w1 w2 w3", "w4 w1"]
    half = load_language_model(str(folder), torch.device("cpu"), torch.bfloat16).log_probs(texts)
    torch.testing.assert_close(half, language.log_probs(texts), atol=0.3, rtol=0.05)


def test_a_model_that_learned_to_count_proposes_the_next_number(language: CausalLanguageModel, toy: ModelBundle) -> None:
    assert language.log_probs(["w1 w2 w3 w4"])[0] > language.log_probs(["w1 w4 w3 w2"])[0] + 3
    (words,) = Rescorer(language, toy, 1.0).word_log_probs([["w1", "w2"]])
    assert words.shape == (3, len(toy.lexicon)) and bool(words.isfinite().all())
    (alone,) = language.next_log_probs([["w1", "w2"]])
    assert float(words[2, 7]) == pytest.approx(float(alone[2, language.encode(" w7")[0]]), abs=1e-5)


def test_with_the_model_alone_prompts_are_such_as_it_expects(language: CausalLanguageModel, toy: ModelBundle) -> None:
    inverter, picture = Inverter(toy), Image.new("RGB", (32, 32), "teal")
    plain = inverter.invert(picture, **FAST)
    spoken = inverter.invert(picture, language=language, language_share=1.0, language_weight=1.0, **FAST)
    own, other = language.log_probs([spoken.prompt, plain.prompt]).tolist()
    assert own / len(spoken.prompt.split()) > other / len(plain.prompt.split()) + 0.5
    assert spoken.language_tokens > 0 and spoken.to_json()["language_tokens"] == spoken.language_tokens
    assert plain.language_tokens == 0 and "language_tokens" not in plain.to_json()


def test_a_share_of_nothing_changes_no_prompt(language: CausalLanguageModel, toy: ModelBundle) -> None:
    bundle = replace(toy, corpus=Corpus(toy.corpus.prompts))  # with a prior that proposes words by itself
    inverter, picture = Inverter(bundle), Image.new("RGB", (32, 32), "teal")
    found = inverter.invert(picture, language=language, language_share=0.0, **FAST)
    assert found.prompt == inverter.invert(picture, **FAST).prompt


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"none"), "the language model .* is damaged or incomplete"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "clip"}'), "is no causal language model"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "the language model .* is damaged or incomplete"),
    ],
)
def test_a_language_model_that_does_not_load_is_one_sentence(folder: Path, tmp_path: Path, change: Any, message: str) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    change(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        load_language_model(str(tmp_path), torch.device("cpu"))
    assert "\n" not in str(error.value)


def test_a_tokenizer_that_reads_no_english_is_refused(language: CausalLanguageModel) -> None:
    class Blind:
        bos_token_id, eos_token_id, unk_token_id = None, 0, 1

        def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
            return {"input_ids": [1] * len(text.split())}

        def __len__(self) -> int:
            return 2

    with pytest.raises(InputError, match="tokenizer of"):
        CausalLanguageModel("blind", language.model, Blind())


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["invert", *map(str, words)])
    with pytest.raises(SystemExit) as exit:
        invert.cli.main()
    return int(exit.value.code or 0)


def test_the_command_takes_a_language_model(
    folder: Path, toy: ModelBundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    monkeypatch.setattr(Inverter, "load", lambda *_, **__: Inverter(toy))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    options = [f"--{name.replace('_', '-')}={value}" for name, value in FAST.items()]
    assert run(monkeypatch, tmp_path / "a.png", "--language", folder, "--json", *options) == 0
    assert '"language_tokens"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--language", "nowhere"], "--language 'nowhere' is no folder"),
        (["--language-share", "0.2"], "--language-share is of a language model"),
        (["--language", "hf:gpt2", "--language-share", "2"], "--language-share is 2.0: give a share, 0 to 1"),
    ],
)
def test_impossible_languages_are_refused_before_anything_is_loaded(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr(Inverter, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    assert run(monkeypatch, tmp_path / "a.png", *words) == 2
    assert message in capsys.readouterr().err
