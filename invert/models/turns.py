"""Parts that are in memory one kind at a time: the image towers while pictures are encoded, the text towers while prompts
are searched, the generator while it draws. What makes a part is called again whenever its turn comes.

A part that has left holds no weights, neither on the device nor on the CPU: its files are read again. One thread at a time
computes with the towers; a tower would otherwise lose its weights to another thread's turn in the midst of a product.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from invert.models.tower import TextTower

IMAGES, TEXT, DRAWING = "images", "text", "drawing"
T = TypeVar("T")


@dataclass(frozen=True)
class Placement:
    """Where a model's weights go.

    Attributes:
        device: the device.
        dtype: of weights and activations.
        turns: what its parts take turns with; None where all of it is in memory at once.
    """

    device: torch.device
    dtype: torch.dtype
    turns: Turns | None = None


class Turns:
    """Whose turn it is. Text towers of joined models are in memory together; of everything else there is one."""

    def __init__(self) -> None:
        self.present: list[Part[Any]] = []
        self.lock = RLock()  # reentrant: a part may ask for another while it is made

    def begin(self, part: Part[Any]) -> None:
        """Have the parts leave that are not to be in memory together with this one."""
        for other in [other for other in self.present if other.role != part.role or part.role != TEXT]:
            other.leave()


class Part(Generic[T]):
    """Something large that is made when it is asked for and dropped when another's turn comes."""

    def __init__(self, turns: Turns, role: str, make: Callable[[], T], dropped: Callable[[], None] = lambda: None) -> None:
        """make: reads it from its files. dropped: called when it has left."""
        self.turns, self.role = turns, role
        self._make, self._dropped = make, dropped
        self._value: T | None = None

    def get(self) -> T:
        """The part, in memory; others leave for it."""
        with self.turns.lock:
            if self._value is None:
                self.turns.begin(self)
                self._value = self._make()
                self.turns.present.append(self)
            return self._value

    @contextmanager
    def held(self) -> Iterator[T]:
        """The part, which stays in memory within the context: other threads wait for their turn."""
        with self.turns.lock:
            yield self.get()

    def leave(self) -> None:
        """Drop it."""
        with self.turns.lock:
            self._value = None
            self.turns.present.remove(self)
            self._dropped()
        gc.collect()  # modules refer to themselves in circles
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class InTurn:
    """Stands for a part: every attribute is its own, asked for when its turn has come.

    It has to stay whole for as long as somebody refers to it, because its turn may be over before its method is.
    """

    def __init__(self, part: Part[Any]) -> None:
        self._part = part

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part.get(), name)


class TowerInTurn(TextTower):
    """Stands for a text tower. Its token rows and positions stay, because words are looked up in them at any time."""

    def __init__(self, part: Part[TextTower], keep_table: Callable[[Tensor], None]) -> None:
        """keep_table: told of the token rows that the tower is to be made with from now on."""
        tower = part.get()
        self._part, self._keep_table = part, keep_table
        self._table, self.positions = tower.table, tower.positions.clone()
        self.shares_prefixes, self.passes_per_position = tower.shares_prefixes, tower.passes_per_position

    @property
    def table(self) -> Tensor:
        return self._table

    @table.setter
    def table(self, rows: Tensor) -> None:
        with self._part.held() as tower:
            self._table = tower.table = rows
            self._keep_table(rows)

    def held(self) -> AbstractContextManager[TextTower]:
        return self._part.held()

    @property
    def layers(self) -> Any:  # type: ignore[override]
        return self._part.get().layers

    @property
    def final_norm(self) -> Any:  # type: ignore[override]
        return self._part.get().final_norm

    @property
    def projection(self) -> Any:  # type: ignore[override]
        return self._part.get().projection

    def encode(self, e: Tensor, eot: Tensor | None = None) -> Tensor:
        with self._part.held() as tower:
            return tower.encode(e, eot)

    def hidden(self, e: Tensor, layer: int) -> Tensor:
        with self._part.held() as tower:
            return tower.hidden(e, layer)

    def prefix(self, e: Tensor) -> Any:
        with self._part.held() as tower:
            return tower.prefix(e)

    def encode_with_prefix(self, cache: Any, e: Tensor, eot: Tensor | None = None) -> Tensor:
        with self._part.held() as tower:
            return tower.encode_with_prefix(cache, e, eot)
