"""The sentences of README.md and docs/ that hold figures, and where in the results each figure stands.

A figure that no experiment wrote is a fact of the code or of the setting: it is listed without a source, on purpose, so
that whoever writes a new number into a page has to say which of the two it is.
"""

from __future__ import annotations

from collections.abc import Callable

from experiments.harness.pictures import OUT_OF_DOMAIN_FOLDERS
from experiments.harness.quoted_clustering import CLUSTERING
from experiments.harness.quoted_inversion import INVERSION
from experiments.harness.quoted_models import MODELS
from experiments.harness.quotes import Quoted, at, ratio, result

KMEANS = "8,000,000 × 128 float16, k = 1,024"
DBSCAN = "dbscan, 100,000 points, eps"
SAME_PROMPTS = tuple(at("compare/compare", "same_prompt_as_the_package", key) for key in ("same", "pictures"))


def compared(kind: str, method: str, measure: str) -> Callable[[], float]:
    return at("compare/compare", "means", kind, method, measure, "mean")


def exactly(kind: str) -> Callable[[], float]:
    """Percent of our prompts that name exactly the objects."""
    return at("compare/compare", "means", kind, "invert", "objects", "mean", times=100)


def passes(kind: str, method: str) -> Callable[[], float]:
    """Token passes of a method, forward and backward."""
    return lambda: compared(kind, method, "forward")() + compared(kind, method, "backward")()


def shares_of_passes(method: str) -> tuple[Callable[[], float], ...]:
    """The least and the largest share of our token passes that a method spends on a kind of pictures."""
    of_kind = [ratio(passes(kind, method), passes(kind, "invert")) for kind in ("held-out", *OUT_OF_DOMAIN_FOLDERS)]
    return tuple((lambda pick=pick: pick(share() for share in of_kind)) for pick in (min, max))


def without_soft_words(*keys: str) -> Callable[[], float]:
    """On scenes whose world the model's bundle does not know: what our method gains by leaving out the soft stage's words."""
    return at("open-world", "differences from english", "held-out", "english-with-soft-words", *keys)


def drawn(method: str) -> Callable[[], float]:
    return at("roundtrip/roundtrip", "methods", method, "judge", "mean")


def budget(name: str) -> Callable[[], float]:
    return at("compare-budget", "means", name, "word_f1", "mean")


def of_ladder(backend: str, size: int, key: str, times: float = 1.0) -> Callable[[], float]:
    rows = lambda: result("matmul-ladder")["ladder"]["cpu"]  # noqa: E731
    return lambda: (
        times * next(float(row[key]) for row in rows() if (row["backend"], row["m"], row["n"]) == (backend, size, size))
    )


def of_cublas(choose: Callable[..., float]) -> Callable[[], float]:
    """The least or largest share of cuBLAS's speed that triton reaches in bfloat16, in percent."""
    kept = "triton_microseconds_beside_torch"
    names = ("bf16 1024", "bf16 2048", "bf16 4096", "bf16 8192")
    return lambda: choose(100 * at("gpu-h200", kept, n, "torch")() / at("gpu-h200", kept, n, "triton")() for n in names)


def dbscan(eps: str, choose: Callable[..., float]) -> Callable[[], float]:
    return lambda: choose(result("gpu-h200")["mean_shift_and_dbscan_wall_ms"][f"{DBSCAN} {eps}"])


def pictographs() -> float:
    from invert.picturebook.world import objects

    return len(objects())


README = [
    Quoted("README.md", "runs offline on two CPU cores"),
    Quoted(
        "README.md",
        "On {:.0f} held-out scenes and {:.0f} pictures that our renderer did not make",
        (
            at("compare/compare", "means", "held-out", "invert", "pictures"),
            at("compare/compare", "means", "foreign", "invert", "pictures"),
        ),
    ),
    Quoted(
        "README.md",
        "it ran on {:.0f} of each kind",
        (at("compare/compare", "means", "held-out", "interrogator", "pictures"),),
    ),
    Quoted("README.md", "has its 95 % interval above zero"),
    Quoted(
        "README.md",
        "`interrogator-lite` gives the same prompts ({:.0f} of {:.0f})",
        SAME_PROMPTS,
    ),
    Quoted(
        "README.md",
        "The package spends {:.0f} to {:.0f} times our token passes",
        shares_of_passes("interrogator"),
    ),
    Quoted(
        "README.md",
        "GCG takes longer ({:.1f} s, ours {:.1f})",
        (compared("held-out", "gcg", "seconds"), compared("held-out", "invert", "seconds")),
    ),
    Quoted(
        "README.md",
        "{:.0f} % of our prompts name exactly their objects, "
        "of stamps, most of them photographs, and of clip art {:.0f} and {:.0f} %",
        tuple(exactly(kind) for kind in ("foreign", "stamps", "clip-art")),
    ),
    Quoted(
        "README.md",
        "our prompts come to a cosine of {:.2f} with the picture under the judge; the true captions to {:.2f}, PEZ's to {:.2f}",
        (drawn("invert"), drawn("true caption"), drawn("pez")),
    ),
    Quoted(
        "README.md",
        "what that draws comes to {:.2f}, level with the words' own {:.2f}",
        tuple(at("soft-draw", "means", name, "judge", "mean") for name in ("polished", "hard prompt")),
    ),
    Quoted(
        "README.md",
        "(word F1 is {:.3f} [{:.3f}, {:.3f}] higher without them, on {:.0f} scenes)",
        (*(without_soft_words("word_f1", key) for key in ("mean", "low", "high")), without_soft_words("pictures")),
    ),
    Quoted("README.md", "they also rerun fast.ai's lesson 12"),
    Quoted(
        "README.md",
        "k-means of 1,000,000 × 64 numbers in 256 clusters, {:.0f} iterations: {:.1f} s",
        (at("kmeans-vs-sklearn", "steps"), at("kmeans-vs-sklearn", "rows", 0, "seconds", "ours")),
    ),
    Quoted(
        "README.md",
        "{:.1f} times scikit-learn's speed and {:.1f} times FAISS's",
        tuple(at("kmeans-vs-sklearn", "rows", 0, "times_faster", name) for name in ("scikit-learn", "faiss")),
    ),
    Quoted(
        "README.md",
        "an iteration over 8,000,000 × 128 takes {:.2f} ms (flash-kmeans {:.2f}), DBSCAN of 100,000 points {:.0f} to {:.0f} ms",
        (
            at("kmeans-gpu", "problems", KMEANS, "ours", "milliseconds_per_iteration"),
            at("kmeans-gpu", "problems", KMEANS, "flash-kmeans", "milliseconds_per_iteration"),
            dbscan("0.1", min),
            dbscan("3", max),
        ),
    ),
    Quoted(
        "README.md",
        "Mean shift of {:,.0f} points converges in {:.1f} s on a CPU",
        (
            at("meanshift-nearest", "contenders", "kdtree", "sizes", -1),
            at("meanshift-nearest", "contenders", "kdtree", "seconds", -1),
        ),
    ),
    Quoted(
        "README.md",
        "Python loops take {:.2f} s for a product of 512³, NumPy {:.1f} ms; "
        "our numba kernel reaches {:.0f} % of torch's speed at 4096³",
        (
            of_ladder("python", 512, "seconds"),
            of_ladder("numpy", 512, "seconds", 1000),
            of_ladder("numba", 4096, "of_torch", 100),
        ),
    ),
    Quoted(
        "README.md",
        "Triton's bfloat16 kernel reaches {:.0f} to {:.0f} % of cuBLAS from 1024³ to 8192³",
        (of_cublas(min), of_cublas(max)),
    ),
    Quoted(
        "README.md",
        "{:.1f} times the plain loop's steps a second, {:.1f} times in bfloat16",
        (at("step-speed-cuda", "times_plain", "ours"), at("step-speed-cuda", "times_plain", "ours-bfloat16")),
    ),
]

PICTUREBOOK = [
    Quoted("docs/picturebook.md", "one or two of {:,.0f} pictographs", (pictographs,)),
    Quoted(
        "docs/picturebook.md",
        "On {:.0f} held-out scenes (`python -m experiments run recover`) word F1 against the truth is {:.2f}, "
        "and {:.0f} % of the prompts",
        (
            at("recover", "scenes"),
            at("recover", "measures", "word_f1", "mean"),
            at("recover", "measures", "objects_right", "mean", times=100),
        ),
    ),
    Quoted(
        "docs/picturebook.md",
        "an image takes {:.1f} s; the command, from a cold start, {:.0f} s the first time ({:.0f} s held to AVX2) "
        "and {:.0f} s with its tables cached",
        (
            at("recover", "cost", "seconds_median"),
            at("recover", "cold_start", "first_ever", "seconds"),
            at("recover", "cold_start", "first_ever_held_to_avx2", "seconds"),
            at("recover", "cold_start", "with_tables_cached", "seconds"),
        ),
    ),
    Quoted("docs/picturebook.md", "`experiments/results/recover-scenes.png` shows 24 of the scenes"),
    # Printed by that command and kept in no result.
    Quoted("docs/picturebook.md", "first among 512 in every one of 1,000 held-out scenes"),
    Quoted("docs/picturebook.md", "the right one wins for 99 % of the objects"),
    Quoted(
        "docs/picturebook.md",
        "draws 64 × 64 pixels, {:.1f} s an image",
        (at("generator", "seconds_per_image"),),
    ),
    Quoted(
        "docs/picturebook.md",
        "Of {:.0f} held-out captions, {:.0f} % come first among 512 when the judge looks at what was drawn "
        "({:.0f} % when it looks at the renderer's picture), at {:.0f} % of the similarity",
        (
            at("generator", "captions"),
            at("generator", "generated", "own_caption_first", times=100),
            at("generator", "rendered", "own_caption_first", times=100),
            at("generator", "share_of_rendered_similarity", times=100),
        ),
    ),
    Quoted(
        "docs/picturebook.md",
        "On {:.0f} held-out scenes (`python -m experiments run roundtrip`), the judge's cosine of drawn image and picture: "
        "true caption {:.2f}, `invert` {:.2f}, `pez` {:.2f}, `interrogator-lite` {:.2f}, "
        "`gcg` {:.2f}, `nearest` {:.2f}, `ph2p` {:.2f}",
        (
            at("roundtrip/roundtrip", "scenes"),
            *(drawn(name) for name in ("true caption", "invert", "pez", "interrogator-lite", "gcg", "nearest", "ph2p")),
        ),
    ),
    Quoted("docs/picturebook.md", "every difference from `invert` has a 95 % interval without zero"),
    Quoted("docs/picturebook.md", "reaches {:.2f}, level with the true caption", (drawn("invert, chosen by images"),)),
]

HOW_WE_COMPARE = [
    Quoted(
        "docs/how-we-compare.md",
        "`interrogator-lite`, our reimplementation of that mode, produced identical prompts on {:.0f} of {:.0f}",
        SAME_PROMPTS,
    ),
    Quoted(
        "docs/how-we-compare.md",
        "The package spends {:.0f} to {:.0f} times our token passes; "
        "on the first picture of each kind it takes {:.0f} and {:.0f} seconds",
        (
            *shares_of_passes("interrogator"),
            compared("held-out", "interrogator", "seconds"),
            compared("foreign", "interrogator", "seconds"),
        ),
    ),
    Quoted(
        "docs/how-we-compare.md",
        "GCG spends {:.1f} to {:.1f} times our token passes",
        shares_of_passes("gcg"),
    ),
    Quoted(
        "docs/how-we-compare.md",
        "slower on held-out scenes ({:.1f} s, ours {:.1f}) and on foreign ones ({:.1f} and {:.1f})",
        tuple(compared(kind, method, "seconds") for kind in ("held-out", "foreign") for method in ("gcg", "invert")),
    ),
    Quoted(
        "docs/how-we-compare.md",
        "With half the limit ours has word F1 {:.2f}; GCG with all of it has {:.2f}",
        (budget("invert × 0.5"), budget("gcg × 1")),
    ),
]

SCALE = [
    Quoted(
        "docs/scale.md",
        "prepared and encoded, 8,192 prompts searched | {:.1f} ms | {:.0f} |",
        (at("scale", "tiers", "1", "seconds_a_picture", times=1000), at("scale", "tiers", "1", "pictures_a_second")),
    ),
    Quoted(
        "docs/scale.md",
        "default budget (4 pictures) | {:.1f} s | {:.2f} |",
        (at("scale", "tiers", "2", "seconds_a_picture"), at("scale", "tiers", "2", "pictures_a_second")),
    ),
]

QUOTED = [*MODELS, *README, *PICTUREBOOK, *HOW_WE_COMPARE, *SCALE, *CLUSTERING, *INVERSION]
COMPLETE = ("README.md", "docs/picturebook.md")  # pages of which no number is without a source
