"""Which other ways to a soft prompt were tried, and how does what each finds draw?

The variants of `experiments/harness/soft_variants.py` that no claim rests on: descents on CLIP held near the words by other
means, other starts, other losses through the denoiser, hidden states themselves, and turns back and forth between soft and hard
prompts (`experiments/harness/back_and_forth.py`). They run on tuning scenes, in each of which a word of the hard prompt is wrong,
so that the hard prompt is worse there than elsewhere. In the environment SOFT_TRIED_SCENES=5 sets how many, SOFT_TRIED_VARIANTS
(names with semicolons) which variants; what is done is kept in the cache.
"""

from __future__ import annotations

from typing import Any

from experiments.harness.environment import chosen, count
from experiments.harness.runner import Context
from experiments.harness.soft_rating import markdown, rated, summary, tuning_subjects
from experiments.harness.soft_variants import MAIN, OF_STATES, TRIED

SCENES, QUICK_SCENES = 5, 1
QUICK = ("on CLIP from words, free", "searched again, chosen by denoising error")


def run(context: Context) -> dict[str, Any]:
    """Means, and paired differences to the hard prompt; a table."""
    n = QUICK_SCENES if context.quick else count("SOFT_TRIED_SCENES", SCENES)
    wanted = variants(context)
    records = [record for subject in tuning_subjects(n, context) for record in rated(subject, wanted, context)]
    found = summary(records, context)
    context.path("table.md").write_text(markdown(found))
    return found


def variants(context: Context) -> dict[str, Any]:
    """The variants to run, beside those that `soft-draw` measures."""
    every = {**TRIED, **OF_STATES}
    names = list(QUICK) if context.quick else chosen("SOFT_TRIED_VARIANTS", list(every), separator=";")
    return {**MAIN, **{name: every[name] for name in names}}
