"""The figures that pages quote: each sentence with its numbers computed from the results, so that none is kept by hand.

In: pages of Markdown and the JSON of `experiments/results`; out: sentences that a page no longer holds as they should be,
and numbers of a page that come from no result. `quoted.py` has the sentences.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache, reduce
from typing import Any, NamedTuple

from experiments.harness.readme import COMPARE, OPEN_WORLD, marks
from experiments.harness.runner import FOLDER, RESULTS

ROOT = FOLDER.parent
NUMBER = re.compile(r"(?<![\w.,-])\d[\d,]*(?:\.\d+)?")
# What holds no figures: the comparison's table (a test of its own), code, comments, tags, the targets of links.
HIDDEN = [
    *(re.compile(".*?".join(map(re.escape, marks(name))), re.DOTALL) for name in (COMPARE, OPEN_WORLD)),
    re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL),
    re.compile(r"<!--.*?-->", re.DOTALL),
    re.compile(r"<[^>]+>"),
    re.compile(r"(?<=\])\([^)]*\)"),
]
CODE = re.compile(r"`[^`\n]*`")


class Quoted(NamedTuple):
    """text: a piece of the page, with a format field for each figure. figures: what computes them, in the same order."""

    page: str
    text: str
    figures: tuple[Callable[[], float], ...] = ()

    def sentence(self) -> str:
        """The text as the results have it today."""
        return self.text.format(*(figure() for figure in self.figures))


@cache
def result(name: str) -> Any:
    """What an experiment wrote into `experiments/results/NAME.json`."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def at(name: str, *keys: str | int, times: float = 1.0) -> Callable[[], float]:
    """The number of a result under these keys, times a factor that turns its unit."""
    return lambda: float(reduce(lambda found, key: found[key], keys, result(name))) * times


def ratio(over: Callable[[], float], under: Callable[[], float]) -> Callable[[], float]:
    """One number of the results divided by another one."""
    return lambda: over() / under()


def prose(page: str) -> str:
    """A page without what holds no figures, its lines joined."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for pattern in HIDDEN:
        text = pattern.sub(" ", text)
    return " ".join(text.split())


def stale(quoted: Quoted) -> str:
    """The sentence that the page should hold and does not; "" where it does."""
    sentence = quoted.sentence()
    return "" if sentence in prose(quoted.page) else sentence


def without_source(page: str, quotes: list[Quoted]) -> list[tuple[str, str]]:
    """Numbers of a page that are in none of the quoted sentences: the words before each, and the number."""
    text = prose(page)
    for quoted in quotes:
        if quoted.page == page:
            text = text.replace(quoted.sentence(), " ")
    text = " ".join(CODE.sub(" ", text).split())
    return [(text[max(0, match.start() - 40) : match.start()], match[0]) for match in NUMBER.finditer(text)]
