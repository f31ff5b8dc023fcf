"""Every prompt that lies one move away from some prompts, as one tensor of word numbers.

A move puts a few words between the beginning of one prompt and the end of another: replacement, insertion, deletion,
crossover and phrase exchange are all of that form, and an exchange of two words changes two places. So moves are
columns (from where, up to where, what between), and rows are gathered for all of them at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from invert.keys import first_of_each, sequence_keys
from invert.prior.batched import BatchedPrior
from invert.word_table import PAD

MAX_PHRASE = 4  # words of a phrase that is exchanged
REQUIRED, INSERTED, REPLACED, DELETED, SWAPPED = range(5)  # in this order at a slot
# Begin the orders of crossovers, of phrases and of parts, which come after all slots.
CROSSED, EXCHANGED, CUT = 1 << 44, 1 << 45, 1 << 46


class Prompts(NamedTuple):
    """rows (P, L) of word numbers, padded; lengths (P,) in words."""

    rows: Tensor
    lengths: Tensor

    def slots(self, ends: bool) -> tuple[Tensor, Tensor]:
        """Prompt and slot (S,) of all words, in order; with `ends` also the slots behind the last ones."""
        inside = torch.arange(self.rows.shape[1] + 1) < (self.lengths + ends)[:, None]
        prompt, slot = inside.nonzero().unbind(1)
        return prompt, slot


class Moves(NamedTuple):
    """N changed prompts in the order in which they are made, prompt by prompt.

    rows (N, L) and lengths (N,): as in `Prompts`. prompt (N,): which one was changed. slot (N,): every word before it is
    as it was. word (N,): the number of the word that a replacement put there, PAD for any other move.
    """

    rows: Tensor
    lengths: Tensor
    prompt: Tensor
    slot: Tensor
    word: Tensor

    def of(self, chosen: Tensor) -> Moves:
        """Those of a mask or of indices (M,)."""
        return Moves(*(column[chosen] for column in self))


@dataclass(frozen=True, eq=False)
class Phrases:
    """Phrases of prompts by the classes before and after them.

    Attributes:
        words: (F, MAX_PHRASE), padded, those of one context together, each once, in the order in which they were met.
        lengths: (F,) words of each.
        contexts: (C,) ascending numbers of contexts.
        begins: (C + 1,) where the phrases of each context begin.
    """

    words: Tensor
    lengths: Tensor
    contexts: Tensor
    begins: Tensor


class Splices:
    """Moves before they are built: `a[:keep] + words + b[resume:]`, then words `slot` and `swap` exchanged where swap ≥ 0."""

    def __init__(self, sources: Prompts) -> None:
        """sources: the prompts that moves begin and end with."""
        self.sources = sources
        self._parts: list[dict[str, Tensor]] = []

    def add(self, prompt: Tensor, order: Tensor, slot: Tensor, **columns: Tensor | int) -> None:
        """Moves of prompts (N,).

        Args:
            prompt: which prompt is changed, and the source of beginning and end unless `a` or `b` say otherwise.
            order: sorts the moves of one prompt.
            slot: every word before it is as it was; what the beginning keeps unless `keep` says otherwise.
            columns: a, b, keep, resume, swap, word: (N,), or one number for all; words: (N, up to MAX_PHRASE), padded.
        """
        given: dict[str, Tensor | int] = {
            "a": prompt,
            "b": prompt,
            "keep": slot,
            "resume": slot,
            "swap": -1,
            "word": PAD,
            **columns,
        }
        words = given.pop("words", None)
        part = {name: torch.as_tensor(column).expand(len(prompt)) for name, column in given.items()}
        between = torch.zeros(len(prompt), MAX_PHRASE, dtype=torch.long)
        if isinstance(words, Tensor):
            between[:, : words.shape[1]] = words
        self._parts.append({"prompt": prompt, "order": order, "slot": slot, "words": between, **part})

    def build(self, most_words: int) -> Moves:
        """All of them, but for those of no word or of more than `most_words`."""
        columns = {name: torch.cat([part[name] for part in self._parts]) for name in self._parts[0]}
        added = (columns["words"] != PAD).sum(1)
        lengths = columns["keep"] + added + (self.sources.lengths[columns["b"]] - columns["resume"]).clamp(min=0)
        made = ((lengths > 0) & (lengths <= most_words)).nonzero()[:, 0]
        made = made[(columns["prompt"][made] * (1 << 48) + columns["order"][made]).argsort(stable=True)]
        columns = {name: column[made] for name, column in columns.items()}
        rows = self._rows(columns, added[made], lengths[made])
        return Moves(rows, lengths[made], columns["prompt"], columns["slot"], columns["word"])

    def _rows(self, columns: dict[str, Tensor], added: Tensor, lengths: Tensor) -> Tensor:
        source, width = self.sources.rows, int(lengths.max()) if len(lengths) else 1
        at, last = torch.arange(width), source.shape[1] - 1
        keep = columns["keep"][:, None]
        behind = at + (columns["resume"] - columns["keep"] - added)[:, None]
        behind = behind.clamp_(0, last).add_((columns["b"] * source.shape[1])[:, None])
        ahead = at.clamp(max=last) + (columns["a"] * source.shape[1])[:, None]
        place = torch.where(at < keep, ahead, behind)
        rows = source.flatten().index_select(0, place.flatten()).view(place.shape)
        put = added.nonzero()[:, 0]
        if len(put):
            place = keep[put] + torch.arange(MAX_PHRASE)
            room = torch.nn.functional.pad(rows[put], (0, MAX_PHRASE))
            words = columns["words"][put]
            room.scatter_(1, place, torch.where(words != PAD, words, room.gather(1, place)))
            rows[put] = room[:, :width]
        swap = (columns["swap"] >= 0).nonzero()[:, 0]
        i, j = columns["slot"][swap], columns["swap"][swap]
        rows[swap, i], rows[swap, j] = rows[swap, j], rows[swap, i]
        return rows.masked_fill(at >= lengths[:, None], PAD)


def at_slot(slot: Tensor, kind: int, index: Tensor) -> Tensor:
    """The order of a move at a slot: by slot, then by kind, then by index."""
    return (slot << 24) + (kind << 20) + index


def add_insertions(splices: Splices, prompts: Prompts, kind: int, words: Tensor) -> None:
    """words: (S, n) numbers put in at each of the prompts' slots, the ends included."""
    prompt, slot = prompts.slots(ends=True)
    n = words.shape[1]
    which, rank = torch.arange(len(slot)).repeat_interleave(n), torch.arange(n).repeat(len(slot))
    splices.add(prompt[which], at_slot(slot[which], kind, rank), slot[which], words=words.reshape(-1, 1))


def add_replacements(splices: Splices, prompt: Tensor, slot: Tensor, words: Tensor) -> None:
    """words: (S, n) numbers put in the places (S,) of others, PAD for none."""
    which, rank = (words != PAD).nonzero().unbind(1)
    word, at = words[which, rank], slot[which]
    splices.add(prompt[which], at_slot(at, REPLACED, rank), at, resume=at + 1, words=word[:, None], word=word)


def add_deletions_and_swaps(splices: Splices, prompts: Prompts) -> None:
    """Each word left out, and each two words exchanged."""
    prompt, slot = prompts.slots(ends=False)
    splices.add(prompt, at_slot(slot, DELETED, torch.zeros_like(slot)), slot, resume=slot + 1)
    which, other = (torch.arange(prompts.rows.shape[1]) > slot[:, None]).nonzero().unbind(1)
    real = other < prompts.lengths[prompt[which]]
    which, other = which[real], other[real]
    splices.add(prompt[which], at_slot(slot[which], SWAPPED, other), slot[which], swap=other)


def add_crossovers(splices: Splices, prompts: Prompts, parents: Prompts, prior: BatchedPrior, first_parent: int) -> None:
    """A prompt's beginning with a parent's end, and a parent's beginning with the prompt's end.

    The prompt is a parent to itself: that drops a phrase, or repeats one. first_parent: its index among the sources.
    """
    own = torch.arange(len(prompts.rows))
    itself = prior.cuts(*prompts, *prompts)[own, own][:, None]  # (P, 1, L, L)
    others = prior.cuts(*prompts, *parents)  # (P, Q, L, K)
    width = max(itself.shape[3], others.shape[3])
    cuts = torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[3])) for part in (itself, others)], 1)
    prompt, parent, i, j = cuts.nonzero().unbind(1)
    source = torch.where(parent == 0, prompt, first_parent + parent - 1)
    order = CROSSED + 2 * torch.arange(len(prompt))
    splices.add(prompt, order, i, b=source, resume=j)
    splices.add(prompt, order + 1, torch.zeros_like(i), a=source, keep=j, resume=i)


def add_phrases(splices: Splices, prompts: Prompts, phrases: Phrases, prior: BatchedPrior) -> None:
    """A phrase of a prompt against one that stands between words of the same two classes.

    A thing comes with its article and its color, which no replacement of single words changes together.
    """
    contexts = prior.contexts(*prompts)
    if contexts is None or not len(phrases.contexts):
        return
    prompt, i, j = spans(prompts.lengths)
    context = context_numbers(contexts, prompt, i, j)
    found = torch.searchsorted(phrases.contexts, context).clamp(max=len(phrases.contexts) - 1)
    begin, end = phrases.begins[found], phrases.begins[found + 1]
    counts = torch.where(phrases.contexts[found] == context, end - begin, 0)
    which = torch.arange(len(i)).repeat_interleave(counts)
    phrase = begin[which] + torch.arange(len(which)) - (counts.cumsum(0) - counts)[which]
    own = phrase_words(prompts.rows, prompt, i, j)[which]
    order = EXCHANGED + torch.arange(len(which))
    other = (own != phrases.words[phrase]).any(1)
    which, phrase, order = which[other], phrase[other], order[other]
    splices.add(prompt[which], order, i[which], resume=j[which], words=phrases.words[phrase])


def add_parts(splices: Splices, prompts: Prompts) -> None:
    """Each prompt up to a word, and each from a word on: a whole clause may say what is not there."""
    prompt, slot = prompts.slots(ends=False)
    inside = slot > 0
    prompt, slot = prompt[inside], slot[inside]
    order = CUT + 2 * torch.arange(len(slot))
    splices.add(prompt, order, slot, resume=prompts.lengths[prompt])
    splices.add(prompt, order + 1, torch.zeros_like(slot), resume=slot)


def phrases_of(prompts: Prompts, prior: BatchedPrior) -> Phrases:
    """The distinct phrases of prompts by the classes before and after them."""
    contexts = prior.contexts(*prompts) if len(prompts.rows) else None
    if contexts is None:
        none = torch.zeros(0, dtype=torch.long)
        return Phrases(torch.zeros(0, MAX_PHRASE, dtype=torch.long), none, none, torch.zeros(1, dtype=torch.long))
    prompt, i, j = spans(prompts.lengths)
    context, words = context_numbers(contexts, prompt, i, j), phrase_words(prompts.rows, prompt, i, j)
    numbers = torch.cat([context[:, None], words], 1)
    first = first_of_each(sequence_keys(numbers, torch.ones_like(numbers, dtype=torch.bool)))
    first = first[context[first].argsort(stable=True)]
    known, counts = context[first].unique_consecutive(return_counts=True)
    return Phrases(words[first], (j - i)[first], known, torch.cat([counts.new_zeros(1), counts.cumsum(0)]))


def spans(lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Prompt, beginning and end (S,) of every phrase of 1 to MAX_PHRASE words in prompts of those lengths (P,)."""
    most = int(lengths.max()) if len(lengths) else 0
    begin = torch.arange(most)[:, None].expand(most, MAX_PHRASE)
    end = begin + torch.arange(1, MAX_PHRASE + 1)
    prompt, at, size = (end <= lengths[:, None, None]).nonzero().unbind(1)
    return prompt, at, at + size + 1


def context_numbers(contexts: tuple[Tensor, Tensor], prompt: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """One number (S,) for the class before each phrase and the class after it."""
    before, after = contexts
    return before[prompt, i] * (1 << 24) + after[prompt, j]


def phrase_words(rows: Tensor, prompt: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """(S, MAX_PHRASE): the words i…j of prompts, padded."""
    at = i[:, None] + torch.arange(MAX_PHRASE)
    words = rows[prompt[:, None], at.clamp(max=rows.shape[1] - 1)]
    return words.masked_fill(at >= j[:, None], PAD)
