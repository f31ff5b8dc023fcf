"""numba's compiler with its cache of machine code, and without it where none can be written.

In: a function and numba's options; out: the compiled function. Programs of a read-only installation whose user has no
writable home, as in many containers, compile again in each process, which takes seconds, where numba would end with an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

NO_CACHE = "cannot cache function"  # what numba's RuntimeError begins with where no folder for the cache can be written


def cached_njit(*signature: Any, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator: `numba.njit` of these arguments, with `cache=True` as far as that is possible."""

    def compiled(function: Callable[..., Any]) -> Any:
        try:
            return njit(*signature, cache=True, **options)(function)
        except RuntimeError as error:
            if not str(error).startswith(NO_CACHE):
                raise
        return njit(*signature, **options)(function)

    return compiled
