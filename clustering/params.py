"""Checks of estimators' parameters, in scikit-learn's own sentences, and errors for names that have changed.

In: an estimator and the name of a parameter; out: its value, of a plain type, or one ValueError. They run in `fit`,
as scikit-learn's do, so that `set_params` and `clone` take anything.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import numpy as np
import torch


class RenamedParameters:
    """An estimator of which some parameters once had other names: these raise a TypeError that says the new one."""

    RENAMED: ClassVar[dict[str, str]] = {}

    def __new__(cls, *args: Any, **parameters: Any) -> Any:
        for old in parameters.keys() & cls.RENAMED.keys():
            raise TypeError(f"{cls.__name__} has no parameter {old!r}: it is called {cls.RENAMED[old]!r}")
        return super().__new__(cls)


def bad_parameter(estimator: Any, name: str, expected: str) -> ValueError:
    value = getattr(estimator, name)
    return ValueError(f"The {name!r} parameter of {type(estimator).__name__} must be {expected}. Got {value!r} instead.")


def integer(estimator: Any, name: str, least: int = 1) -> int:
    """A whole number of at least `least`."""
    return whole(getattr(estimator, name), name, type(estimator).__name__, least)


def whole(value: Any, name: str, owner: str, least: int = 1) -> int:
    """The same of a function's parameter."""
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
        raise ValueError(f"The {name!r} parameter of {owner} must be an int in the range [{least}, inf). Got {value!r} instead.")
    return int(value)


def real(estimator: Any, name: str, least: float = 0.0, open_below: bool = False) -> float:
    """A finite number of at least `least`, or above it."""
    value = getattr(estimator, name)
    number = float(value) if isinstance(value, Real) else math.nan
    if not (math.isfinite(number) and (number > least if open_below else number >= least)):
        raise bad_parameter(estimator, name, f"a float in the range {'(' if open_below else '['}{least}, inf)")
    return number


def path_of(value: Any, name: str, owner: str) -> Path:
    """The path that a function's parameter names."""
    if isinstance(value, str | PathLike):
        with contextlib.suppress(TypeError):  # of bytes
            return Path(value)
    raise TypeError(f"The {name!r} parameter of {owner} must be a path. Got {type(value).__name__} instead.")


def boolean(estimator: Any, name: str) -> bool:
    """True or False."""
    value = getattr(estimator, name)
    if not isinstance(value, bool | np.bool_):
        raise bad_parameter(estimator, name, "an instance of 'bool'")
    return bool(value)


def choice(estimator: Any, name: str, allowed: Sequence[str]) -> str:
    """One of the allowed words."""
    value = getattr(estimator, name)
    if not isinstance(value, str) or value not in allowed:
        words = ", ".join(map(repr, allowed))
        raise bad_parameter(estimator, name, f"a str among {{{words}}}")
    return value


def generator_on(device: torch.device, random_state: Any) -> torch.Generator:
    """A random stream that draws on the device itself, so that no draw has to be moved there.

    random_state: an int (the same one gives the same draws), a `numpy.random.RandomState` or `Generator` or a
    `torch.Generator`, from which a seed is drawn, or None for a fresh start. Raises ValueError for anything else.
    """
    return torch.Generator(device=device).manual_seed(seed_from(random_state))


def seed_from(random_state: Any) -> int:
    """A seed of 64 bits from anything that users call a random state."""
    if random_state is None:
        return torch.Generator().seed()
    if isinstance(random_state, Integral) and 0 <= int(random_state) < 1 << 64:
        return int(random_state)
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**63 - 1))
    if isinstance(random_state, torch.Generator):
        return int(torch.randint(2**63 - 1, (), generator=random_state, device=random_state.device))
    raise ValueError(
        f"{random_state!r} cannot be used to seed: random_state must be an int from 0 to 2**64 - 1, "
        "a numpy RandomState or Generator, a torch.Generator, or None"
    )


def remember(estimator: Any, *names: str) -> None:
    """Keep the values of parameters that a fitted model goes on with: `set_params` may change the parameters at any time."""
    estimator._fitted = {name: getattr(estimator, name) for name in names}


def fitted(estimator: Any, name: str) -> Any:
    """The value that a parameter had in `fit`; the parameter itself where nothing was remembered, as in older files."""
    return vars(estimator).get("_fitted", {}).get(name, getattr(estimator, name))


@contextmanager
def threads_of(n_jobs: int | None) -> Iterator[None]:
    """Let torch, and with it this package, use so many threads: None as many as before, −1 one a core, −2 one fewer, …"""
    if n_jobs is None:
        yield
        return
    if not isinstance(n_jobs, Integral) or n_jobs == 0:
        raise ValueError(
            f"n_jobs must be None, a positive int, or a negative one counted from all cores. Got {n_jobs!r} instead."
        )
    own = THREADS.enter(max(1, int(n_jobs) if n_jobs > 0 else (os.cpu_count() or 1) + 1 + int(n_jobs)))
    try:
        yield
    finally:
        THREADS.leave(own)


class _TorchThreads:
    """torch's number of threads while fits ask for their own; it is the process's: the last fit to end puts back the first's."""

    def __init__(self) -> None:
        self.lock, self.fits, self.first = Lock(), 0, 0

    def enter(self, threads: int) -> int:
        """Set the number; returns the one before."""
        with self.lock:
            own = torch.get_num_threads()
            self.first = own if self.fits == 0 else self.first
            self.fits += 1
            torch.set_num_threads(threads)
            return own

    def leave(self, own: int) -> None:
        """Put back what `enter` returned."""
        with self.lock:
            self.fits -= 1
            torch.set_num_threads(own if self.fits else self.first)


THREADS = _TorchThreads()
