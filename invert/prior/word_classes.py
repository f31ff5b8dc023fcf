"""Which words of a corpus are used alike.

Common words are grouped by the divergence of their contexts; rare ones by hard EM over the common
words around them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

MIN_FREQUENCY = 0.002  # share of a corpus's words from which a word counts as common
MAX_JS_DIVERGENCE = 0.01  # nats: two common words whose contexts diverge by less are of one class
NEIGHBORS = (-2, -1, 1)  # offsets from a rare word to the common words that tell its class
MIN_CLASS_SHARE = 0.015  # of the rare words, how many must mostly follow one common word for it to begin a class
SMOOTHING = 0.5  # added to a class's count of every neighbor
EM_ROUNDS = 20  # at most
CHUNK = 4096  # sentences per batch of the co-occurrence counts
START, END = "<s>", "</s>"
AFTER, LIKE = "after ", "like "  # begin the names of classes of rare words, and of common words used alike
RARE = "<rare>"  # stands for every rare word among a word's neighbors

Neighbors = Counter[tuple[int, str]]  # (offset, common word) → how often it was seen there


def word_classes(sentences: Sequence[Sequence[str]], counts: Counter[str]) -> dict[str, str]:
    """Word → class.

    Args:
        sentences: of words.
        counts: how often each word occurs in them.
    """
    common = {text for text, n in counts.items() if n > MIN_FREQUENCY * counts.total()}
    masked = [[text if text in common else RARE for text in sentence] for sentence in sentences]
    seen: dict[str, Neighbors] = defaultdict(Counter)
    for sentence, known in zip(sentences, masked, strict=True):
        padded = [START, START, *known, END]
        for i, text in enumerate(sentence, 2):
            if text not in common:
                seen[text].update((offset, padded[i + offset]) for offset in NEIGHBORS)
    return common_classes(masked, sorted(common)) | rare_classes(seen)


def common_classes(sentences: Sequence[Sequence[str]], words: Sequence[str]) -> dict[str, str]:
    """Common word → "like …", the first of the words used like it, or itself where there are none.

    Words are used alike where three distributions diverge little (Jensen-Shannon: Lin, 1991): of the
    words before them, of the words after them, and of the words in the same sentence. A chain of such
    words is one class.
    """
    number = {text: i for i, text in enumerate([*words, RARE, START, END])}
    framed = [(START, *sentence, END) for sentence in sentences]
    token_ids = torch.tensor([number[text] for sentence in framed for text in sentence], dtype=torch.long)
    bigrams = torch.zeros(len(number), len(number))
    bigrams.index_put_((token_ids[:-1], token_ids[1:]), torch.ones(()), accumulate=True)
    used = [counts[: len(words)] for counts in (bigrams, bigrams.T, cooccurrence(framed, number))]
    alike = torch.stack([divergences(counts) for counts in used]).mean(0) < MAX_JS_DIVERGENCE  # (W, W)
    first = torch.arange(len(words))
    for _ in words:  # as far as a chain can reach
        first = torch.where(alike, first, len(words)).amin(1)
    size = Counter(first.tolist())
    return {text: f"{LIKE}{words[k]}" if size[k] > 1 else text for text, k in zip(words, first.tolist(), strict=True)}


def cooccurrence(sentences: Sequence[Sequence[str]], number: dict[str, int]) -> Tensor:
    """(W, W): in how many sentences each two of the numbered words occur together."""
    together = torch.zeros(len(number), len(number))
    for begin in range(0, len(sentences), CHUNK):
        chunk = sentences[begin : begin + CHUNK]
        token_ids = torch.tensor([number[text] for sentence in chunk for text in sentence], dtype=torch.long)
        incidence = torch.zeros(len(chunk), len(number))  # sentence by word
        incidence[torch.repeat_interleave(torch.tensor([len(sentence) for sentence in chunk])), token_ids] = 1
        together += incidence.T @ incidence
    return together.fill_diagonal_(0)


def divergences(counts: Tensor) -> Tensor:
    """Jensen-Shannon divergence (W, W), in nats, of each two rows of counts (W, N) as distributions."""
    p = counts / counts.sum(1, keepdim=True).clamp(min=1)
    mixed = (p[:, None] + p) / 2
    entropy, joint = (-torch.xlogy(q, q).sum(-1) for q in (p, mixed))
    return joint - (entropy[:, None] + entropy) / 2


def rare_classes(seen: dict[str, Neighbors]) -> dict[str, str]:
    """Rare word → "after …": a mixture of multinomials over the neighbors that a word was seen with.

    What precedes a word seen twice says little by itself: "brown bats" might be one bat or two. So a
    class begins with the words that mostly follow "a", or "two", or another frequent predecessor, and
    hard EM gives the others to the class that explains their neighbors best (Celeux and Govaert, 1992).
    """
    if not seen:
        return {}
    words = sorted(seen)
    before = top_predecessors(seen, words)
    followers = Counter(before)
    names = sorted(name for name, n in followers.items() if n >= MIN_CLASS_SHARE * len(words))
    names = names or [followers.most_common(1)[0][0]]
    begun = torch.tensor([names.index(name) if name in names else len(names) for name in before])
    chosen = hard_em(*neighbor_counts(seen, words), begun, len(names))
    return {text: f"{AFTER}{names[k]}" for text, k in zip(words, chosen.tolist(), strict=True)}


def neighbor_counts(seen: dict[str, Neighbors], words: Sequence[str]) -> tuple[Tensor, Tensor]:
    """How often each word was seen with each neighbor (W, N), and the neighbors' offsets (N,)."""
    column = {neighbor: i for i, neighbor in enumerate(sorted(set().union(*seen.values())))}
    counts = torch.zeros(len(words), len(column))
    for row, text in zip(counts, words, strict=True):
        for neighbor, n in seen[text].items():
            row[column[neighbor]] = n
    return counts, torch.tensor([offset for offset, _ in column])


def hard_em(counts: Tensor, offsets: Tensor, chosen: Tensor, classes: int) -> Tensor:
    """The likeliest class (W,) of every word.

    Args:
        counts: (W, N), as from `neighbor_counts`.
        offsets: (N,), likewise.
        chosen: (W,) int64, the first choice; `classes` marks a word without one, left out of the first round.
        classes: how many there are.
    """
    for _ in range(EM_ROUNDS):
        member = torch.nn.functional.one_hot(chosen, classes + 1)[:, :-1].float()  # (W, K)
        weight = member.T @ counts + SMOOTHING
        for offset in NEIGHBORS:
            weight[:, offsets == offset] /= weight[:, offsets == offset].sum(1, keepdim=True)
        last, chosen = chosen, (counts @ weight.log().T + (member.mean(0) + 1e-9).log()).argmax(1)
        if torch.equal(last, chosen):
            break
    return chosen


def top_predecessors(seen: dict[str, Neighbors], words: Sequence[str]) -> list[str]:
    """What precedes each word most often; of equals, what precedes all words most often."""
    overall: Neighbors = Counter()
    for neighbors in seen.values():
        overall.update(neighbors)
    before = [[n for n in seen[text] if n[0] == -1] for text in words]
    return [max(mine, key=lambda n: (seen[text][n], overall[n], n))[1] for text, mine in zip(words, before, strict=True)]
