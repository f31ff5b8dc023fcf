"""What stays in the process that made it: a loaded model holds functions and a card's memory, which no pickle can carry."""

from __future__ import annotations

from typing import NoReturn, Self, SupportsIndex

from invert.errors import InputError


class OneProcess:
    """Copies share what is loaded; to another process it does not go.

    A pickle that loaded the model anew would do so for every task of a pool, unseen.
    """

    def __copy__(self) -> Self:
        raise NotImplementedError

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self.__copy__()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise InputError(
            f"an `{type(self).__name__}` cannot be pickled: call `{type(self).__name__}.load` once in each process, "
            "for example in a pool's `initializer`"
        )
