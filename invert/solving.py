"""From tasks to results: a method runs on them, and what it found is told as every method's is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from invert.captioning import captioned
from invert.methods import Method, run_tasks
from invert.methods.task import InversionOutput, InversionTask
from invert.result import ConceptWords, Result, SoftToken, tokens_of
from invert.target import text_latent


def solve(method: Method, tasks: Sequence[InversionTask]) -> list[Result]:
    """The tasks' results; after an interrupt those of the best prompts so far."""
    if not tasks:
        return []
    try:
        return [result_of(*solved) for solved in zip(tasks, run_tasks(method, tasks), strict=True)]
    except KeyboardInterrupt:
        if not all(task.history.best_prompt for task in tasks):
            raise
        return [interrupted(task) for task in tasks]


def until_interrupted(found: Iterable[Sequence[Result]]) -> list[Result]:
    """The results one behind the other, up to the first that an interrupt cut short."""
    results: list[Result] = []
    for some in found:
        results += some
        if any(result.interrupted for result in some):
            break
    return results


def interrupted(task: InversionTask) -> Result:
    """The result of a task whose method did not come to its end."""
    prompt = task.history.best_prompt
    output = InversionOutput(prompts=[(prompt, float(text_latent(task.clip, prompt) @ task.target))])
    return replace(result_of(task, output), interrupted=True)


def result_of(task: InversionTask, output: InversionOutput) -> Result:
    """What a method found, what it cost, and what its prompts consist of."""
    prompt, score = output.prompts[0]
    words, budget, clip = task.bundle.lexicon.words, task.budget, task.clip
    return Result(
        prompt=prompt,
        score=score,
        tokens=tokens_of(clip, prompt),
        history=task.history.entries,
        alternatives=output.prompts,
        method=task.config.method,
        model=clip.name,
        seed=task.config.seed,
        seconds=budget.seconds,
        **captioned(task, output),  # before the budget is read, which pays for it
        forward_tokens=budget.forward_tokens,
        backward_tokens=budget.backward_tokens,
        image_passes=budget.image_passes,
        language_tokens=budget.language_tokens,
        soft_tokens=[SoftToken(p.text(clip), p.distance, p.has_word) for p in output.projections],
        soft=output.soft,
        soft_widths=tuple(clip.table_widths),
        model_scores=clip.exact.model_scores([prompt for prompt, _ in output.prompts], task.target),
        soft_score=output.soft_score,
        concepts=[ConceptWords(tuple(words[word].text for word, _ in found.words), found.share) for found in output.concepts],
        doubt=task.doubt,
        interrupted=budget.stopped,
    )
