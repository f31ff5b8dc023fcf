"""The sentences about real models that hold figures: README.md, docs/models.md, docs/how-to/real-models.md; see `quoted`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from experiments.harness.quotes import Quoted, at, result

REAL = "docs/how-to/real-models.md"


def first_use(*keys: str, times: float = 1.0) -> Callable[[], float]:
    return at("first-use", *keys, times=times)


def took(run: str, dtype: str = "float32") -> Callable[[], float]:
    """Seconds of a run."""
    return first_use(dtype, run, "seconds")


def peak(run: str, dtype: str = "float32") -> Callable[[], float]:
    """GiB of memory that a run took at most."""
    return first_use(dtype, run, "peak_mib", times=1 / 1024)


def same_in_half_precision() -> float:
    """Pictures, where none of their prompts differs in either half precision; else not a number."""
    differ = [row["differ"] for row in result("precision")["compared with float32"].values()]
    return float("nan") if any(differ) or len(differ) != 2 else float(result("precision")["pictures"])


def peaks(model: str, dtype: str) -> tuple[Callable[[], float], ...]:
    """The GiB of a model's weights, its peak whole, and its peak with one tower in memory at a time."""

    def row(low: bool) -> dict[str, Any]:
        rows: list[dict[str, Any]] = result("low-memory")["peaks"]
        return next(row for row in rows if (row["model"], row["dtype"], row["low_memory"]) == (model, dtype, low))

    return (
        lambda: float(row(False)["weights_gib"]),
        lambda: float(row(False)["peak_gib"]),
        lambda: float(row(True)["peak_gib"]),
    )


MODELS = [
    Quoted(
        "docs/models.md",
        "inverts {:.0f} held-out pictures of picturebook and compares the prompts with those of float32",
        (at("precision", "pictures"),),
    ),
    Quoted(
        "docs/models.md",
        "a search takes {:.1f} times the processor time of one without it "
        "({:.1f} s beside {:.1f} of one thread, on a busy machine)",
        (
            at("language-cost", "times_the_search"),
            at("language-cost", "pictures", 0, "processor_seconds_with_model"),
            at("language-cost", "pictures", 0, "processor_seconds"),
        ),
    ),
    Quoted("docs/models.md", "in bfloat16 and in float16 none of the {:.0f} differs", (same_in_half_precision,)),
    Quoted("docs/models.md", "| ViT-L-14 | float32 | {:.2f} GiB | {:.2f} GiB | {:.2f} GiB |", peaks("ViT-L-14", "float32")),
    Quoted(
        "docs/models.md",
        "| ViT-L-14 | bfloat16 | {:.2f} GiB | {:.2f} GiB, with the copy in float32 | {:.2f} GiB |",
        peaks("ViT-L-14", "bfloat16"),
    ),
    Quoted("docs/models.md", "| ViT-bigG-14 | float32 | {:.2f} GiB | {:.2f} GiB | {:.2f} GiB |", peaks("ViT-bigG-14", "float32")),
    Quoted(
        "docs/models.md",
        "| ViT-bigG-14 | bfloat16 | {:.2f} GiB | {:.2f} GiB, with the copy in float32 | {:.2f} GiB |",
        peaks("ViT-bigG-14", "bfloat16"),
    ),
    Quoted("docs/models.md", "| 77 | {:.2f} GiB (ViT-L-14) |", (at("low-memory", "weights_gib", "ViT-L-14"),)),
    *(
        Quoted("docs/models.md", row, (at("low-memory", "weights_gib", name),))
        for row, name in (
            ("| 32, bigG 72 | {:.2f} GiB |", "PE-Core-B-16"),
            ("| 64, one of them 16 | {:.2f} GiB |", "ViT-B-16-SigLIP"),
            ("`hf:google/siglip2-base-patch16-224` | 64 | {:.2f} GiB |", "ViT-B-16-SigLIP2"),
            ("`ViT-L-14-CLIPA/datacomp1b` | 32 | {:.2f} GiB |", "ViT-L-14-CLIPA"),
            ("`MobileCLIP2-S2/dfndr2b` | 77 | {:.2f} GiB |", "MobileCLIP2-S2"),
            ("`hf:facebook/metaclip-2-worldwide-huge-quickgelu` | 77 | {:.2f} GiB |", "ViT-H-14-worldwide"),
        )
    ),
    Quoted("README.md", "(ViT-L-14: {:.1f} GiB)", (first_use("weights_gib"),)),
    Quoted(
        "README.md",
        "On two CPU cores a first run on ViT-L-14 takes {:.0f} s, encoding all {:.0f} s, and a picture after that {:.0f} s, "
        "or at most {:.0f} s with `--seconds {:.0f}`, in at most {:.1f} GiB",
        (
            *map(took, ("nothing_encoded", "encode", "all_encoded")),
            first_use("float32", "all_encoded_briefly", "longest_seconds"),
            first_use("seconds"),
            lambda: max(peak(run)() for run in ("nothing_encoded", "once_more", "encode", "all_encoded")),
        ),
    ),
    Quoted(
        "README.md",
        "with `--dtype bfloat16` {:.0f}, {:.0f} and {:.0f} s",
        tuple(took(run, "bfloat16") for run in ("nothing_encoded", "encode", "all_encoded")),
    ),
    Quoted(REAL, "ViT-L-14 ({:.1f} GiB of weights)", (first_use("weights_gib"),)),
    *(
        Quoted(
            REAL,
            f"{row} | {{:.0f}} | {{:.1f}} GiB | {{:.0f}} | {{:.1f}} GiB |",
            (took(run), peak(run), took(run, "bfloat16"), peak(run, "bfloat16")),
        )
        for run, row in (
            ("nothing_encoded", "a part of the words and prompts is encoded"),
            ("once_more", "the same once more"),
            ("encode", "for all the rest"),
            ("all_encoded", "with all of them encoded"),
        )
    ),
    Quoted(
        REAL,
        "the same with `--seconds {:.0f}` | at most {:.0f} | {:.1f} GiB | at most {:.0f} | {:.1f} GiB |",
        (
            first_use("seconds"),
            *(
                first_use(dtype, "all_encoded_briefly", key, times=times)
                for dtype in ("float32", "bfloat16")
                for key, times in (("longest_seconds", 1.0), ("largest_peak_mib", 1 / 1024))
            ),
        ),
    ),
    Quoted(REAL, "The cache takes {:.2f} GiB", (first_use("float32", "cache_gib"),)),
    Quoted(
        REAL,
        "their perplexity of a character is {:.0f} ({:.0f} in bfloat16) and every word is one; of PEZ's prompts it is {:.0f}",
        (
            first_use("float32", "all_encoded_briefly", "perplexity_of_a_character"),
            first_use("bfloat16", "all_encoded_briefly", "perplexity_of_a_character"),
            first_use("pez_briefly", "perplexity_of_a_character"),
        ),
    ),
]
