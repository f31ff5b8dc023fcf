"""Write `invert/english/words.tsv`: which English words and phrases there are, how frequent they are, and what they name.

    apt-get install wordnet-base && pip install wordfreq
    python scripts/make_english_words.py

A word is taken where WordNet 3.0 has it, or has what it is an inflected form of, and people write it (wordfreq's Zipf
scale: 3 is once in a million words). A phrase of several words is taken where WordNet has it as one entry and every
word of it is frequent. Each line holds text, Zipf frequency times 100, kinds separated by commas (WordNet's
lexicographer files for nouns, most frequent sense first; "adj", "verb", "adv", "plural", "ing", "function"), for a
noun that has one in use, its plural, and for a word that names something visible often enough, the Zipf frequency times
100 of those uses alone (`english_uses.py`). Sources: Miller (1995), WordNet; Speer (2022), wordfreq 3.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from english_uses import Uses
from wordfreq import top_n_list, word_frequency, zipf_frequency

from invert.english.tables import VISIBLE_KINDS
from invert.lexicon import ENGLISH_FUNCTION_WORDS
from kernels.once import OnceParser

OUTPUT = Path(__file__).parents[1] / "invert" / "english" / "words.tsv"
MODERN = OUTPUT.with_name("modern.tsv")  # ours: what WordNet 3.0 of 2006 has not met, as text, kind, plural
MIN_MODERN_ZIPF = 3.5  # that they count with at least: wordfreq's corpora are older than some of them
MIN_ZIPF = 2.2  # of a single word
MIN_VISIBLE_ZIPF = 1.7  # of a single word that names what a picture can show
MIN_PART_ZIPF = 3.1  # of each word of a phrase that says something: one that is rare makes the phrase a technical term
MIN_NAME_ZIPF = 3.3  # of a word or phrase that is only written with a capital
MAX_PHRASE_WORDS = 3
N_SENSES = 5  # of a noun, most frequent first, whose kinds are told
OFFENSIVE = re.compile(
    r"\(ethnic slur\)|\((often )?(disparaging|offensive|vulgar|obscene)|offensive (term|name|word)|disparaging (term|name)"
)
# WordNet's lexicographer files of nouns, by number.
NOUN_KINDS = {
    3: "top", 4: "act", 5: "animal", 6: "artifact", 7: "attribute", 8: "body", 9: "cognition", 10: "communication",
    11: "event", 12: "feeling", 13: "food", 14: "group", 15: "location", 16: "motive", 17: "object", 18: "person",
    19: "phenomenon", 20: "plant", 21: "possession", 22: "process", 23: "quantity", 24: "relation", 25: "shape",
    26: "state", 27: "substance", 28: "time",
}  # fmt: skip
# Kinds of which phrases are taken too: what a picture can show.
VISIBLE = {"animal", "artifact", "artifact-name", "food", "object", "object-name", "person", "phenomenon", "plant", "body"}
# Words that say how others stand to each other, beside the function words that prompts are made of.
FUNCTION_WORDS = ENGLISH_FUNCTION_WORDS | frozenset(
    "i you my we your me us our them if so how because other another just about also only then very too next yet "  # noqa: SIM905
    "top side front outside inside among upon toward towards beyond".split()
)
NAMES_HOLD = frozenset({"can", "being"})  # function words that are nouns in the names of things
NAME = re.compile(r"[a-z]+(?: [a-z]+)*")


def entries(folder: Path, part: str) -> Iterator[tuple[str, list[str]]]:
    """(lemma, offsets of its senses, the most frequent first) of one of WordNet's index files."""
    for line in (folder / f"index.{part}").read_text().splitlines():
        if line.startswith(" "):
            continue  # the licence
        fields = line.split()
        yield fields[0].replace("_", " "), fields[-int(fields[2]) :]


def abbreviations(folder: Path, part: str) -> set[str]:
    """Lemmas, in lower case, that WordNet only writes in capitals ("CCC"), or only with a capital and people seldom write."""
    written: dict[str, set[str]] = {}
    for line in (folder / f"data.{part}").read_text().splitlines():
        if not line.startswith(" "):
            fields = line.split()
            for text in fields[4 : 4 + 2 * int(fields[3], 16) : 2]:
                text = re.sub(r"\(.+\)$", "", text).replace("_", " ")
                written.setdefault(text.lower(), set()).add(text)
    return {lemma for lemma, forms in written.items() if all(unwanted(form) for form in forms)}


def unwanted(form: str) -> bool:
    return form.isupper() or (form != form.lower() and zipf_frequency(form, "en") < MIN_NAME_ZIPF)


def synsets(folder: Path, part: str) -> dict[str, tuple[int, str, bool]]:
    """Offset → (lexicographer file, gloss, whether it is an instance: a proper name)."""
    found = {}
    for line in (folder / f"data.{part}").read_text().splitlines():
        if line.startswith(" "):
            continue
        head, _, gloss = line.partition(" | ")
        fields = head.split()
        found[fields[0]] = int(fields[1]), gloss, " @i " in head
    return found


def exceptions(folder: Path, part: str) -> dict[str, str]:
    """Irregular form → lemma."""
    lines = (line.split() for line in (folder / f"{part}.exc").read_text().splitlines())
    return {fields[0]: fields[1] for fields in lines if len(fields) > 1}


def plurals(noun: str, irregular: dict[str, str]) -> list[str]:
    """Spellings that the plural of a noun may have, the likeliest first."""
    *head, last = noun.split(" ")
    if last in irregular:
        found = [irregular[last]]
    elif re.search(r"[^aeiou]y$", last):
        found = [f"{last[:-1]}ies"]
    elif re.search(r"(s|x|z|ch|sh)$", last):
        found = [f"{last}es"]
    elif last.endswith("o"):
        found = [f"{last}es", f"{last}s"]
    else:
        found = [f"{last}s"]
    return [" ".join([*head, one]) for one in found]


def ing(verb: str) -> list[str]:
    """Spellings that the present participle of a verb may have."""
    found = [f"{verb}ing", f"{verb}{verb[-1]}ing"]
    if verb.endswith("ie"):
        found.append(f"{verb[:-2]}ying")
    elif verb.endswith("e"):
        found.append(f"{verb[:-1]}ing")
    return found


def past(verb: str, irregular: dict[str, list[str]]) -> list[str]:
    """Spellings that the past forms of a verb may have."""
    found = [f"{verb}d" if verb.endswith("e") else f"{verb}ed", f"{verb}{verb[-1]}ed", *irregular.get(verb, ())]
    if re.search(r"[^aeiou]y$", verb):
        found.append(f"{verb[:-1]}ied")
    return found


class Words:
    """Words found so far: text → kinds and plural."""

    def __init__(self) -> None:
        self.kinds: dict[str, list[str]] = {}
        self.plural: dict[str, str] = {}
        self.modern: set[str] = set()
        self.verb_forms: dict[str, list[str]] = {}  # verb → its inflected forms
        self.common = set(top_n_list("en", 400_000))

    def frequent(self, text: str, at_least: float = MIN_ZIPF) -> bool:
        if not NAME.fullmatch(text):
            return False
        parts = text.split(" ")
        if len(parts) == 1:
            return text in self.common and zipf_frequency(text, "en") >= at_least and (len(text) > 2 or text in SHORT)
        if len(parts) > MAX_PHRASE_WORDS or not (ENGLISH_FUNCTION_WORDS - NAMES_HOLD).isdisjoint(parts):
            return False
        return min(zipf_frequency(part, "en") for part in parts) >= MIN_PART_ZIPF

    def add(self, text: str, kinds: list[str]) -> None:
        known = self.kinds.setdefault(text, [])
        known += [kind for kind in kinds if kind not in known]


SHORT = {"ox", "up", "go", "ax"}  # the words of two letters that are no abbreviations


def collect(folder: Path) -> Words:
    words = Words()
    for text in FUNCTION_WORDS:
        words.add(text, ["function"])
    nouns, noun_forms = synsets(folder, "noun"), exceptions(folder, "noun")
    irregular_plural = {lemma: form for form, lemma in noun_forms.items()}
    for line in MODERN.read_text().splitlines():
        text, kind, plural = line.split("\t")
        words.add(text, [kind])
        words.modern.add(text)
        if plural:
            words.plural[text] = plural
            words.add(plural, ["plural"])
    unwritten = abbreviations(folder, "noun")
    for lemma, senses in entries(folder, "noun"):
        if lemma in unwritten:
            continue
        told = [nouns[offset] for offset in senses]
        clean = [sense for sense in told if not OFFENSIVE.search(sense[1])]
        if not told or OFFENSIVE.search(told[0][1]):
            continue
        kinds = list(dict.fromkeys(NOUN_KINDS[sense[0]] + ("-name" if sense[2] else "") for sense in clean[:N_SENSES]))
        concrete = bool(VISIBLE & set(kinds))
        if not words.frequent(lemma, MIN_VISIBLE_ZIPF if concrete else MIN_ZIPF):
            continue
        if (" " in lemma and kinds[0] not in VISIBLE) or kinds[0] == "person-name":
            continue
        words.add(lemma, kinds)
        for form in plurals(lemma, irregular_plural):
            if not kinds[0].endswith("-name") and words.frequent(form, MIN_VISIBLE_ZIPF if concrete else MIN_ZIPF):
                words.plural[lemma] = form
                if " " not in form:
                    words.add(form, ["plural"])
                break
    verb_forms: dict[str, list[str]] = {}
    for form, lemma in exceptions(folder, "verb").items():
        verb_forms.setdefault(lemma, []).append(form)
    for lemma, senses in entries(folder, "verb"):
        if " " in lemma or not words.frequent(lemma) or OFFENSIVE.search(glosses(folder, senses)[0]):
            continue
        words.add(lemma, ["verb"])
        inflected = (("ing", ing(lemma)), ("past", past(lemma, verb_forms)), ("verb", plurals(lemma, {})))
        words.verb_forms[lemma] = [form for _, forms in inflected for form in forms]
        for kind, forms in inflected:
            for form in forms:
                if words.frequent(form):
                    words.add(form, [kind])
    for part, kind in (("adj", "adj"), ("adv", "adv")):
        unwritten = abbreviations(folder, part)
        for lemma, _ in entries(folder, part):
            if lemma not in unwritten and words.frequent(lemma) and (" " not in lemma):
                words.add(lemma, [kind])
    return words


_VERBS: dict[str, tuple[int, str, bool]] = {}


def glosses(folder: Path, senses: list[str]) -> list[str]:
    if not _VERBS:
        _VERBS.update(synsets(folder, "verb"))
    return [_VERBS[offset][1] for offset in senses]


def main() -> None:
    parser = OnceParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="folder of WordNet's index and data files"
    )
    folder = parser.parse_args().wordnet
    words = collect(folder)
    uses = Uses(folder, NOUN_KINDS, words.verb_forms.items(), partial(word_frequency, lang="en"))
    lines = []
    for text, kinds in words.kinds.items():
        zipf = max(zipf_frequency(text, "en"), MIN_MODERN_ZIPF if text in words.modern else 0)
        share = uses.visible_share(text, kinds, VISIBLE_KINDS)
        seen = str(round(100 * (zipf + math.log10(share)))) if share else ""
        lines.append((-round(100 * zipf), text, ",".join(kinds), words.plural.get(text, ""), seen))
    lines.sort()
    OUTPUT.write_text("".join(f"{text}\t{-zipf}\t{kinds}\t{plural}\t{seen}\n" for zipf, text, kinds, plural, seen in lines))
    print(f"{len(lines)} words and phrases")


if __name__ == "__main__":
    main()
