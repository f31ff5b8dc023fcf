"""The rows of experiments/README.md about inversion that hold figures of today's weights; see `quoted`."""

from __future__ import annotations

from collections.abc import Callable

from experiments.harness.quotes import Quoted, at

PAGE = "experiments/README.md"
FACTORS = ("0.1", "0.5", "1", "10")
ROUNDTRIP = "roundtrip/roundtrip"


def by_budget(method: str, key: str = "word_f1", factors: tuple[str, ...] = FACTORS) -> tuple[Callable[[], float], ...]:
    """The means of a method at a tenth of the budget, half of it, all of it, ten times it."""
    return tuple(at("compare-budget", "means", f"{method} × {factor}", key, "mean") for factor in factors)


def of_part(variant: str) -> Callable[[], float]:
    return at("ablations", "means", variant, "word_f1", "mean")


def drawn(method: str) -> Callable[[], float]:
    return at(ROUNDTRIP, "methods", method, "judge", "mean")


def interval(name: str, *keys: str, times: float = 1.0) -> tuple[Callable[[], float], ...]:
    """Mean, low and high; of a difference the other way round (times −1) with its bounds in their order."""
    low, high = ("low", "high") if times > 0 else ("high", "low")
    return tuple(at(name, *keys, key, times=times) for key in ("mean", low, high))


def apart(kind: str, method: str, key: str) -> tuple[Callable[[], float], ...]:
    """Of `open-world`: ours minus a peer's, as the results have it."""
    return interval("open-world", "differences from english", kind, method, key)


def softly(prompt: str) -> Callable[[], float]:
    return at("soft-draw", "means", prompt, "judge", "mean")


def correlation(method: str) -> Callable[[], float]:
    return at(ROUNDTRIP, "methods", method, "correlation")


INVERSION = [
    Quoted(PAGE, "`invert` has word F1 {:.2f}, {:.2f}, {:.2f}, {:.2f} and stops by itself", by_budget("invert")),
    Quoted(
        PAGE,
        "which {:.0f} % of the prompts name exactly",
        (at("compare-budget", "means", "invert × 0.1", "objects", "mean", times=100),),
    ),
    Quoted(PAGE, "random search {:.2f}, {:.2f}, {:.2f}, {:.2f}, GCG", by_budget("random")),
    Quoted(PAGE, "GCG {:.2f}, {:.2f}, {:.2f}, {:.2f}, PEZ", by_budget("gcg")),
    Quoted(PAGE, "PEZ {:.2f}, {:.2f}, {:.2f}, {:.2f}, `interrogator-lite`", by_budget("pez")),
    Quoted(PAGE, "`interrogator-lite` {:.2f}, {:.2f}, {:.2f}, {:.2f}. Random search", by_budget("interrogator-lite")),
    Quoted(
        PAGE,
        "Random search and GCG end with higher cosines than ours ({:.3f}, {:.3f}; {:.3f}) "
        "and lower judges ({:.3f}, {:.3f}; {:.3f})",
        tuple(by_budget(name, key, ("10",))[0] for key in ("optimised", "judge") for name in ("random", "gcg", "invert")),
    ),
    Quoted(
        PAGE,
        "the search nearly everything (word F1 {:.2f} without it, {:.2f} with it), then the corpus ({:.2f} without) "
        "and the target (`empty` {:.2f}, but `gap` {:.2f}",
        tuple(map(of_part, ("without search", "invert", "without corpus", "target empty", "target gap"))),
    ),
    Quoted(
        PAGE,
        "`gap` 0.91: {:.3f} [{:.3f}, {:.3f}] above `raw`",
        interval("ablations", "whole_minus_variant", "target gap", "word_f1", times=-1),
    ),
    Quoted(
        PAGE,
        "zero-shot classification {:.3f} [{:.3f}, {:.3f}], and {:.0f} % of the prompts name exactly the objects for it",
        (
            *interval("ablations", "whole_minus_variant", "without classes", "word_f1"),
            at("ablations", "whole_minus_variant", "without classes", "objects", "mean", times=100),
        ),
    ),
    Quoted(
        PAGE,
        "is {:.0f} % of the rendered picture's, the caption's objects come first among 512 for {:.0f} % ({:.0f} % rendered)",
        (
            at("generator", "share_of_rendered_similarity", times=100),
            at("generator", "generated", "same_objects_first", times=100),
            at("generator", "rendered", "same_objects_first", times=100),
        ),
    ),
    Quoted(
        PAGE,
        "true caption {:.2f}, `invert` {:.2f} ({:.3f} [{:.3f}, {:.3f}] below it)",
        (
            drawn("true caption"),
            drawn("invert"),
            *interval(ROUNDTRIP, "invert_minus_other", "true caption", times=-1),
        ),
    ),
    Quoted(
        PAGE,
        "`pez` {:.2f}, `interrogator-lite` {:.2f}, `gcg` {:.2f}, `nearest` {:.2f}, `ph2p` {:.2f}; `--select generator` {:.2f}, "
        "{:.3f} [{:.3f}, {:.3f}] above the true caption",
        (
            *map(drawn, ("pez", "interrogator-lite", "gcg", "nearest", "ph2p", "invert, chosen by images")),
            *interval(ROUNDTRIP, "invert, chosen by images_minus_other", "true caption"),
        ),
    ),
    Quoted(
        PAGE,
        "is {:.2f} among true captions, {:.2f} to {:.2f} within peers, {:.2f} within `invert`",
        (
            correlation("true caption"),
            *(
                (lambda pick=pick: pick(correlation(peer)() for peer in ("pez", "gcg", "interrogator-lite", "nearest", "ph2p")))
                for pick in (min, max)
            ),
            correlation("invert"),
        ),
    ),
    Quoted(
        PAGE,
        "judge's cosine of images {:.2f} (mixture), {:.2f} (free)",
        (softly("soft, mixture"), softly("soft, free")),
    ),
    Quoted(
        PAGE,
        "polished through the denoiser {:.3f}, hard prompt {:.3f}, true caption {:.3f} (25 scenes; polished minus hard "
        "{:.3f} [{:.3f}, {:.3f}])",
        (
            *map(softly, ("polished", "hard prompt", "true caption")),
            *interval("soft-draw", "difference to hard prompt", "polished"),
        ),
    ),
    Quoted(
        PAGE,
        "`retrieve` touches it in word F1 on clip art ({:.3f} [{:.3f}, {:.3f}])",
        apart("clip-art", "retrieve", "word_f1"),
    ),
    Quoted(PAGE, "GCG in the judge on Twemoji ({:.3f} [{:.3f}, {:.3f}])", apart("foreign", "gcg", "judge")),
    Quoted(
        PAGE,
        "The corpus holds the frames (the words that join) of {:.0f} % of "
        "picturebook's captions, and {:.0f} % of its distinct frames",
        tuple(
            at("open-world", "share of the captions' frames that the corpus holds", key, times=100)
            for key in ("of captions", "of distinct frames")
        ),
    ),
]
