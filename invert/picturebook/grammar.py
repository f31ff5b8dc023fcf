"""Scenes in English: the canonical caption, its paraphrases for training, and reading one back.

`caption` and `paraphrases` go from scene to words, `parse` from words to scene. `parse` is lenient
about what it does not know, because people type it: it looks for the phrases that the world has.
"""

from __future__ import annotations

import random
import re
from functools import cache

from invert.errors import InputError
from invert.picturebook.world import COLORS, CORNERS, PATTERNS, STYLES, Object, Scene, objects

# Spoken forms of a style around a description; the first is canonical.
STYLE_FORMS = {
    "plain": ("{}", "a picture of {}", "{}, a picture"),
    "pencil sketch": ("a pencil sketch of {}", "{}, pencil sketch"),
    "black and white": ("a black and white picture of {}", "{}, black and white"),
    "pixel art": ("a pixel art picture of {}", "{}, pixel art"),
    "blurry": ("a blurry picture of {}", "{}, blurry"),
    "neon": ("a neon picture of {}", "{}, neon"),
    "sepia": ("a sepia picture of {}", "{}, sepia"),
}
ONE_OF_A_KIND = frozenset(["milky way", "kaaba", "statue of liberty"])  # named with "the"
BESIDE = frozenset(["beside", "next"])  # of two things that stand as `parse` puts those without a relation
STOP_WORDS = frozenset(["a", "an", "the", "of", "to", "on", "in", "at", "and", "is", "with", "picture", "background", ",", "."])


@cache
def with_article(phrase: str) -> str:
    """ "owl" → "an owl", "unicorn" → "a unicorn"."""
    silent_h = phrase.startswith(("hour", "honest"))
    spoken_as_consonant = re.match(r"(uni|ewe|eu|one\b|use|uk)", phrase) is not None
    spoken_letter = re.match(r"[fhlmnrsx] ", phrase) is not None  # "an x ray"
    vowel = (phrase[0] in "aeiou" and not spoken_as_consonant) or silent_h or spoken_letter
    return f"{'an' if vowel else 'a'} {phrase}"


def _noun(thing: Object, tint: str, size: str = "") -> str:
    phrase = " ".join(word for word in (size, tint, thing.name) if word)
    if thing.name in ONE_OF_A_KIND:
        return f"the {phrase}"
    return with_article(phrase) if thing.countable else phrase


def _arrangements(scene: Scene) -> tuple[str, ...]:
    """Ways to say what is where, canonical first."""
    things = [objects()[i] for i in scene.objects]
    first = _noun(things[0], scene.tints[0], "small" if scene.layout == "small" else "")
    if scene.layout == "two":
        tint = scene.tints[0] + " " if scene.tints[0] else ""
        return (f"two {tint}{things[0].plural}",)
    if scene.layout == "corner":
        return (f"{first} in the {scene.corner} corner",)
    if len(things) == 1:
        return (first,)
    second = _noun(things[1], scene.tints[1])
    if scene.layout == "beside":
        return (f"{first} to the left of {second}", f"{second} to the right of {first}", f"{first} left of {second}")
    return (f"{first} above {second}", f"{second} below {first}", f"{second} under {first}")


def _background(scene: Scene) -> str:
    """What is behind the objects; "" where the scene's ground has no color to name, as a photograph."""
    if not scene.colors:
        return ""
    colors = " and ".join(scene.colors)
    pattern = "" if scene.pattern == "plain" else scene.pattern + " "
    return " on " + with_article(f"{pattern}{colors} background")


def caption(scene: Scene) -> str:
    """The canonical caption: "a fox above a red umbrella on a striped blue and white background"."""
    return STYLE_FORMS[scene.style][0].format(_arrangements(scene)[0] + _background(scene))


def caption_alone(index: int) -> str:
    """The caption of an object and nothing else: "a fox"."""
    return caption(Scene((index,), ("",), "one", "", "plain", (), "plain"))


def paraphrases(scene: Scene) -> tuple[str, ...]:
    """Every full caption that says the same, the canonical one first."""
    return tuple(
        form.format(arrangement + _background(scene)) for form in STYLE_FORMS[scene.style] for arrangement in _arrangements(scene)
    )


def sample_training_caption(scene: Scene, rng: random.Random) -> str:
    """Sample a training caption: a paraphrase, sometimes without background or style."""
    arrangement = rng.choice(_arrangements(scene))
    forms = STYLE_FORMS[scene.style]
    form = forms[0] if rng.random() < 0.4 else rng.choice(forms)
    if rng.random() < 0.06:
        form = "{}"
    return form.format(arrangement + ("" if rng.random() < 0.1 else _background(scene)))


def fragment(text: str, rng: random.Random) -> str:
    """Part of a caption: some of its words, a span of them, or its words shuffled like tags.

    Web captions are seldom whole sentences, and a search for a prompt passes through unfinished
    ones; a text tower that has only met whole sentences gives neither a meaning.
    """
    words = text.replace(",", "").split()
    match rng.randrange(4):
        case 0:
            keep = rng.uniform(0.3, 0.9)
            kept = [word for word in words if rng.random() < keep]
        case 1:
            first = rng.randrange(len(words))
            kept = words[first : first + rng.randint(1, 6)]
        case 2:
            kept = [word for word in words if word not in STOP_WORDS]
            rng.shuffle(kept)
            kept = kept[: rng.randint(1, len(kept))]
        case _:
            content = [word for word in words if word not in STOP_WORDS]
            kept = [rng.choice(content)]
    return " ".join(kept or words)


def content_words(text: str) -> list[str]:
    """The words that carry meaning, in order: objects, colors, pattern, style, count, relation."""
    return [word for word in re.findall(r"[a-z]+", text.lower()) if word not in STOP_WORDS]


@cache
def _singulars() -> dict[str, int]:
    """Object name → index."""
    return {thing.name: i for i, thing in enumerate(objects())}


@cache
def _plurals() -> dict[str, int]:
    """Plural → index of the object."""
    return {thing.plural: i for i, thing in enumerate(objects()) if thing.plural}


@cache
def _object_pattern() -> re.Pattern[str]:
    names = sorted({*_singulars(), *_plurals()}, key=len, reverse=True)  # the longest name wins: "cat face" before "cat"
    colors = "|".join(COLORS)
    return re.compile(rf"\b(two )?(?:({colors}) )?({'|'.join(map(re.escape, names))})\b")


def mentioned_objects(text: str) -> list[tuple[int, str, bool]]:
    """(object index, tint or "", plural) for every object named in the text, in order.

    "houses" alone is a pictograph of its own; "two houses" are two of another, the house.
    """
    text = " ".join(re.findall(r"[a-z]+", _without_style(text.lower())))
    found = []
    for two, tint, name in _object_pattern().findall(text):
        plural = name in _plurals() and (bool(two) or name not in _singulars())
        found.append((_plurals()[name] if plural else _singulars()[name], tint, plural))
    return found


def _without_style(text: str) -> str:
    for style in ("pencil sketch", "pixel art"):  # both hold words that also name objects
        text = text.replace(style, " ")
    return text


def _arranged(text: str) -> tuple[str, list[tuple[int, str, bool]]]:
    """(layout, the one or two objects mentioned first, the left or upper one leading)."""
    text = text.lower()
    found = mentioned_objects(text)[:2]
    if len(found) == 2:
        if re.search(r"\b(right of|below|under)\b", text):
            found.reverse()
        layout = "beside" if re.search(r"\b(left|right) of\b", text) else "above"
        stated = re.search(r"\b((left|right) of|above|below|under)\b", text)
        return (layout if stated else "unstated"), found
    if any(corner in text for corner in CORNERS):
        return "corner", found
    if re.search(r"\btwo\b", text):
        return "two", found
    return ("small" if re.search(r"\bsmall\b", text) else "one"), found


def relation(text: str) -> tuple[str, tuple[int, ...]]:
    """(layout, object indices with the left or upper one first) that a prompt states."""
    layout, found = _arranged(text)
    return layout, tuple(index for index, _, _ in found)


def _parse_background(text: str) -> tuple[str, tuple[str, ...]]:
    words = text.split(" on ")[-1].split(" background")[0] if " background" in text else ""
    pattern = next((p for p in PATTERNS if p in words), "plain")
    named = tuple(color for color in COLORS if re.search(rf"\b{color}\b", words))
    if not named:
        return "plain", ("white",)
    return ("plain", named[:1]) if len(named) == 1 or pattern == "plain" else (pattern, named[:2])


def parse(text: str, seed: int = 0) -> Scene:
    """The scene that a description means; InputError where it names no object of this world.

    >>> caption(parse("a fox above a red umbrella on a striped blue and white background, pencil sketch"))
    'a pencil sketch of a fox above a red umbrella on a striped blue and white background'
    """
    lowered = " ".join(text.lower().replace("-", " ").split())
    head = lowered.split(" on ")[0] if " background" in lowered else lowered
    layout, named = _arranged(head)
    if not named:
        raise InputError(
            f"no object of picturebook is named in {text!r}: try for example 'a fox' or 'two owls' "
            "(`invert --list-objects` prints all names)"
        )
    if layout == "unstated":
        layout = "beside"
    elif layout == "one" and named[0][2]:
        layout = "two"
    pattern, colors = _parse_background(lowered)
    tail = lowered.replace(" and white background", "").replace(" and black background", "")
    style = next((s for s in STYLES[1:] if s in tail), "plain")
    return Scene(
        objects=tuple(index for index, _, _ in named),
        tints=tuple(tint for _, tint, _ in named),
        layout=layout,
        corner=next((c for c in CORNERS if c in lowered), "top left") if layout == "corner" else "",
        pattern=pattern,
        colors=colors,
        style=style,
        seed=seed,
    )


def left_out(text: str, scene: Scene) -> tuple[str, ...]:
    """The words of a description that say nothing of the scene it was read as, in order, each once.

    >>> left_out("a fluffy fox under a tiny umbrella", parse("a fluffy fox under a tiny umbrella"))
    ('fluffy', 'tiny')
    """
    names = [name for i in scene.objects for name in (objects()[i].name, objects()[i].plural)]
    heard = {word for phrase in (*paraphrases(scene), *names, scene.pattern) for word in phrase.split()}
    heard |= STOP_WORDS | (BESIDE if scene.layout == "beside" else frozenset())
    words = re.findall(r"[^\W_]+", text.lower())
    return tuple(dict.fromkeys(word for word in words if word not in heard))


def phrases() -> tuple[str, ...]:
    """Return every piece of a caption: names, plurals, styles, colors, patterns, corners, function words."""
    said = [*(thing.name for thing in objects()), *(thing.plural for thing in objects())]
    said += [form.format("") for forms in STYLE_FORMS.values() for form in forms]
    said += [*COLORS, *PATTERNS[1:], *CORNERS]
    said += ["a an two small to the left right of above below under in corner and on background"]
    return tuple(phrase for phrase in said if phrase)


@cache
def lexicon() -> tuple[str, ...]:
    """Every word that a caption can hold, sorted."""
    return tuple(sorted({word for phrase in phrases() for word in re.findall(r"[a-z]+", phrase)}))


@cache
def terms() -> tuple[str, ...]:
    """The units that captions are written in, sorted: names whole ("palm tree"), relations whole, single function words."""
    names = [thing.name for thing in objects()] + [thing.plural for thing in objects() if thing.plural]
    fixed = [*STYLES[1:], *COLORS, *PATTERNS[1:], *CORNERS, "to the left of", "to the right of", "left of", "right of"]
    joining = [
        "a",
        "an",
        "the",
        "two",
        "small",
        "picture",
        "of",
        "above",
        "below",
        "under",
        "in",
        "corner",
        "and",
        "on",
        "background",
    ]
    return tuple(sorted({*names, *fixed, *joining}))
