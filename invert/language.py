"""How likely a row of words is as language: a class n-gram model, learned from a corpus of prompts.

A cosine alone is maximised by word soup (the text tower never met it); with a prior on language the
search looks for the most probable prompt given the image instead: CLIP's cosine times its logit scale
estimates log p(prompt | image) − log p(prompt) up to a constant (InfoNCE: van den Oord et al., arXiv
1807.03748), so cosine + weight · log p(prompt) is what is maximised. A longer prompt is always the less
likely one, so log p counts beyond what a prompt of that many tokens usually has, `per_token` times its
length (machine translation's word reward: He et al., AAAI 2016): else the search leaves out what it could
well say. Words that are used alike share their class's statistics (Brown et al., 1992), so any noun may stand
where some noun stood, any colour where some colour stood, for free; and contexts of classes come up often
enough for long ones to be learned: that a sepia picture's background is gray stands ten words later.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from invert.scorer import Row, length
from invert.vocabulary import GLUE, Vocabulary, Word

COMMON = 0.002  # share of a corpus's words from which a word counts as common
ALIKE = 0.01  # nats: two common words whose company diverges by less are of one class
NEIGHBOURS = (-2, -1, 1)  # places, relative to a rare word, whose common words tell its class
SHARE = 0.015  # of the rare words, how many must follow one common word mostly for it to begin a class
SMOOTHING = 0.5  # added to a class's count of every neighbour
EM_ROUNDS = 20  # at most
DISCOUNT = 0.5  # taken off every count for what was never seen (absolute discounting: Ney et al., 1994)
ORDER = 10  # classes told together: a whole sentence of most captions
SAMPLE = 1024  # sentences that a token's mean log-probability is taken from
PART = 4096  # sentences of a corpus that are told together
START, END = "<s>", "</s>"
UNSEEN = "<unseen>"  # class of the joining words that the corpus lacks; where it has no rare words, of all that it lacks
AFTER, LIKE = "after ", "like "  # begin the names of classes of rare words, and of common words used alike
RARE = "<rare>"  # stands for every rare word among a word's neighbours


class Language:
    """Log-probabilities of rows of words. An empty corpus gives a language that finds all rows alike."""

    def __init__(self, corpus: Iterable[str], vocabulary: Vocabulary, order: int = ORDER) -> None:
        """corpus: sentences, cut into the vocabulary's words, the longest that fits first. order: n of the n-grams."""
        self.vocabulary, self.order = vocabulary, order
        rows = [vocabulary.cut(sentence) for sentence in corpus]
        sentences = [[word.text for word in row] for row in rows]
        self.flat = not sentences
        counts = Counter(text for sentence in sentences for text in sentence)
        self.class_of = word_classes(sentences, counts)
        self.unseen = newest_class(counts, self.class_of)
        self.followers: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        built = Counter(tuple(self.class_of[text] for text in sentence) for sentence in sentences)
        for classes, n in built.items():
            for context, c in self.told(classes):
                for shorter in range(len(context) + 1):
                    self.followers[context[shorter:]][c] += n
        self.totals = {context: counts.total() for context, counts in self.followers.items()}
        self.classes = sorted({*self.class_of.values(), UNSEEN})
        number = {name: i for i, name in enumerate(self.classes)}
        self.word_class = torch.tensor([number[self.of(word)] for word in vocabulary.words])  # (W,)
        self._known: dict[tuple[tuple[str, ...], str], float] = {}
        self._steps: dict[tuple[tuple[str, ...], str], float] = {}
        tokens = sum(map(length, rows[:SAMPLE]))
        # Mean log p of one token of the corpus itself; 0 where nothing was learned.
        self.per_token = sum(map(self.log_probability, rows[:SAMPLE])) / tokens if tokens else 0.0

    def of(self, word: Word) -> str:
        """A word's class."""
        return self.class_of.get(word.text, UNSEEN if word.text in GLUE else self.unseen)

    def classes_in(self, row: Iterable[Word]) -> list[str]:
        """The class of every word of a row."""
        known = self.class_of
        return [known.get(word.text) or self.of(word) for word in row]

    def told(self, classes: Sequence[str]) -> list[tuple[tuple[str, ...], str]]:
        """Every step of a row of classes, its end included: what comes before (order - 1 classes), and what follows."""
        before = self.order - 1
        padded = [*[START] * before, *classes, END]
        return [(tuple(padded[i - before : i]), padded[i]) for i in range(before, len(padded))]

    def step(self, context: tuple[str, ...], c: str) -> float:
        """log p(class c | the classes before it); context: order - 1 of them, START where the row has not begun."""
        known = self._steps.get((context, c))
        if known is None:
            known = self._steps[context, c] = math.log(self._probability(context, c))
        return known

    def _probability(self, context: tuple[str, ...], c: str) -> float:
        """Absolute discounting: what is taken off the seen goes to the shorter context, at last to all classes alike."""
        known = self._known.get((context, c))
        if known is not None:
            return known
        total = self.totals.get(context, 0)
        shorter = self._probability(context[1:], c) if context else 1 / (len(self.classes) + 1)  # END is one more
        if total:
            counts = self.followers[context]
            shorter = (max(counts[c] - DISCOUNT, 0) + DISCOUNT * len(counts) * shorter) / total
        self._known[context, c] = shorter
        return shorter

    def log_probability(self, row: Row) -> float:
        """log p of a whole row, its end included; 0 for every row where nothing was learned."""
        return self.log_probability_of(self.classes_in(row))

    def log_probability_of(self, classes: Sequence[str]) -> float:
        """`log_probability` of every row of words of these classes."""
        if self.flat:
            return 0.0
        return sum([self.step(*one) for one in self.told(classes)])

    def choices(self, row: Row, place: int, insert: bool) -> Tensor:
        """For every word of the vocabulary (W,): log p of the steps it takes part in at a place of the row.

        insert: before the place's word, else in its stead.
        """
        if self.flat:
            return torch.zeros(len(self.word_class))
        head = self.classes_in(row[:place])
        tail = self.classes_in(row[place if insert else place + 1 :])
        return torch.tensor([self._around(head, c, tail) for c in self.classes])[self.word_class]

    def _around(self, head: list[str], c: str, tail: list[str]) -> float:
        """log p of class c after the head, and of those steps of the tail that c is context for."""
        before = self.order - 1
        near = [*[START] * before, *head][len(head) :]
        near += [c, *tail, END][: self.order]
        return sum([self.step(tuple(near[i - before : i]), near[i]) for i in range(before, len(near))])


def word_classes(sentences: Sequence[Sequence[str]], counts: Counter[str]) -> dict[str, str]:
    """Word → class: common words go with those used alike, rare ones with those between the same common words.

    counts: how often the sentences say each word.
    """
    common = {text for text, n in counts.items() if n > COMMON * counts.total()}
    told = [[text if text in common else RARE for text in sentence] for sentence in sentences]
    seen: dict[str, Counter[tuple[int, str]]] = defaultdict(Counter)
    for sentence, known in zip(sentences, told, strict=True):
        padded = [START, START, *known, END]
        for i, text in enumerate(sentence, 2):
            if text not in common:
                seen[text].update((place, padded[i + place]) for place in NEIGHBOURS)
    return common_classes(told, sorted(common)) | rare_classes(seen)


def newest_class(counts: Counter[str], class_of: dict[str, str]) -> str:
    """The class that a word not met yet most probably is of: most of the words met just once are (Good, 1953)."""
    once = Counter(class_of[text] for text, n in sorted(counts.items()) if n == 1 and class_of[text].startswith(AFTER))
    return once.most_common(1)[0][0] if once else UNSEEN


def common_classes(sentences: Sequence[Sequence[str]], words: Sequence[str]) -> dict[str, str]:
    """Common word → "like …", the first of those that it is used like, or itself where it is used like no other.

    Words are used alike where three things diverge little (Jensen-Shannon: Lin, 1991): what stands before them,
    what stands after them, and what else their sentences say. A chain of such words is one class.
    """
    number = {text: i for i, text in enumerate([*words, RARE, START, END])}
    framed = [(START, *sentence, END) for sentence in sentences]
    told = torch.tensor([number[text] for sentence in framed for text in sentence], dtype=torch.long)
    pairs = torch.zeros(len(number), len(number))  # what stands before what
    pairs.index_put_((told[:-1], told[1:]), torch.ones(()), accumulate=True)
    used = [counts[: len(words)] for counts in (pairs, pairs.T, company(framed, number))]
    alike = torch.stack([divergences(counts) for counts in used]).mean(0) < ALIKE  # (W, W)
    first = torch.arange(len(words))
    for _ in words:  # as far as a chain can reach
        first = torch.where(alike, first, len(words)).amin(1)
    size = Counter(first.tolist())
    return {text: f"{LIKE}{words[k]}" if size[k] > 1 else text for text, k in zip(words, first.tolist(), strict=True)}


def company(sentences: Sequence[Sequence[str]], number: dict[str, int]) -> Tensor:
    """(W, W): in how many sentences each two of the numbered words stand together; a part of the corpus at a time."""
    together = torch.zeros(len(number), len(number))
    for begin in range(0, len(sentences), PART):
        part = sentences[begin : begin + PART]
        told = torch.tensor([number[text] for sentence in part for text in sentence], dtype=torch.long)
        said = torch.zeros(len(part), len(number))  # which sentence says what
        said[torch.repeat_interleave(torch.tensor([len(sentence) for sentence in part])), told] = 1
        together += said.T @ said
    return together.fill_diagonal_(0)


def divergences(counts: Tensor) -> Tensor:
    """Jensen-Shannon divergence (W, W), in nats, of each two rows of counts (W, N) as distributions."""
    p = counts / counts.sum(1, keepdim=True).clamp(min=1)
    mixed = (p[:, None] + p) / 2
    entropy, joint = (-torch.xlogy(q, q).sum(-1) for q in (p, mixed))
    return joint - (entropy[:, None] + entropy) / 2


def rare_classes(seen: dict[str, Counter[tuple[int, str]]]) -> dict[str, str]:
    """Word → "after …": a mixture of multinomials over the neighbours (place, common word) that a word was seen with.

    A word seen twice says little by what came before it: "brown bats" might be one bat or two. So a class begins
    with the words that mostly follow "a", or "two", or another word that is the favourite of many, and hard
    EM gives all others to the class that explains their neighbours best (Celeux and Govaert, 1992).
    """
    if not seen:
        return {}
    words = sorted(seen)
    before = favourites(seen, words)
    followers = Counter(before)
    names = sorted(name for name, n in followers.items() if n >= SHARE * len(words))
    names = names or [followers.most_common(1)[0][0]]
    begun = torch.tensor([names.index(name) if name in names else len(names) for name in before])
    chosen = hard_em(*neighbour_counts(seen, words), begun, len(names))
    return {text: f"{AFTER}{names[k]}" for text, k in zip(words, chosen.tolist(), strict=True)}


def neighbour_counts(seen: dict[str, Counter[tuple[int, str]]], words: Sequence[str]) -> tuple[Tensor, Tensor]:
    """How often each word was seen with each neighbour (W, N), and the neighbours' places (N,)."""
    column = {neighbour: i for i, neighbour in enumerate(sorted(set().union(*seen.values())))}
    counts = torch.zeros(len(words), len(column))
    for row, text in zip(counts, words, strict=True):
        for neighbour, n in seen[text].items():
            row[column[neighbour]] = n
    return counts, torch.tensor([place for place, _ in column])


def hard_em(counts: Tensor, place: Tensor, chosen: Tensor, classes: int) -> Tensor:
    """The likeliest class (W,) of every word, from a first choice.

    Words that the first choice numbers `classes` have none yet, and do not count in the first round.
    """
    for _ in range(EM_ROUNDS):
        member = torch.nn.functional.one_hot(chosen, classes + 1)[:, :-1].float()  # (W, K)
        weight = member.T @ counts + SMOOTHING
        for one in NEIGHBOURS:
            weight[:, place == one] /= weight[:, place == one].sum(1, keepdim=True)
        last, chosen = chosen, (counts @ weight.log().T + (member.mean(0) + 1e-9).log()).argmax(1)
        if torch.equal(last, chosen):
            break
    return chosen


def favourites(seen: dict[str, Counter[tuple[int, str]]], words: Sequence[str]) -> list[str]:
    """What stands before each word most often; of equals what stands before all words most often."""
    overall: Counter[tuple[int, str]] = Counter()
    for neighbours in seen.values():
        overall.update(neighbours)
    before = [[n for n in seen[text] if n[0] == -1] for text in words]
    return [max(mine, key=lambda n: (seen[text][n], overall[n], n))[1] for text, mine in zip(words, before, strict=True)]
