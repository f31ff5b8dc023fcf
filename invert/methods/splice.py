"""SpLiCE: the words whose latents explain the picture's together, heaviest first, with no search at all."""

from __future__ import annotations

from invert.bundle import ModelBundle
from invert.config import InvertConfig
from invert.methods.configs import SpliceConfig
from invert.methods.task import InversionOutput, InversionTask
from invert.sparse import L1, sparse_weights

SEPARATOR = ", "


def splice(task: InversionTask, config: SpliceConfig) -> InversionOutput:
    """The heaviest words as one prompt; the nearest word where none has a weight."""
    words = sparse_words(task, config.n_words, config.l1)
    if not words:
        words = (task.bundle.word_latents @ task.target).topk(1).indices.tolist()
    lexicon, limit = task.bundle.lexicon, task.config.max_tokens
    texts: list[str] = []
    for word in words:
        if texts and len(lexicon.encode(SEPARATOR.join([*texts, lexicon.words[word].text]))) > limit:
            break
        texts.append(lexicon.words[word].text)
    prompt = SEPARATOR.join(texts)
    score = task.scorer().score_text(prompt)
    task.history.record("splice", 0, score, prompt)
    task.history.report_candidate(prompt, score)
    return InversionOutput(prompts=[(prompt, score)])


def sparse_words(task: InversionTask, n: int, l1: float = L1) -> list[int]:
    """Indices of at most n words of the lexicon that explain the target together, heaviest first; no function words."""
    latents, gap = task.bundle.word_latents, task.bundle.modality_gap if task.config.target == "raw" else None
    center = None if gap is None else latents.mean(0) - gap  # gap: mean text minus mean image
    weights = sparse_weights(task.target, latents, center, l1)
    says = [not task.bundle.lexicon.is_function_word(word) for word in task.bundle.lexicon.words]
    order = weights.sort(descending=True, stable=True).indices.tolist()
    return [word for word in order if says[word] and float(weights[word]) > 0][:n]


def prepare(bundle: ModelBundle, config: InvertConfig) -> None:
    """Encode the words."""
    _ = bundle.word_latents
