"""How much of a prompt a generator reads: Stable Diffusion's text encoders cut what goes beyond their context."""

from __future__ import annotations

from typing import Any


def what_is_cut(generator: Any, prompt: str) -> str:
    """How much of the prompt is read, as a sentence, where that is not all; "" where it is, or nobody can tell."""
    tokenizer = getattr(getattr(generator, "pipeline", None), "tokenizer", None)
    if tokenizer is None or not getattr(generator, "reads_clip", False):
        return ""
    special = tokenizer.num_special_tokens_to_add()
    tokens, most = len(tokenizer(prompt, verbose=False).input_ids) - special, tokenizer.model_max_length - special
    return f"{generator.name} reads the first {most} of the prompt's {tokens} tokens" if tokens > most else ""
