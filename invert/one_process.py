"""What stays in the process that made it: a loaded model holds functions and a card's memory, which no pickle can carry."""

from __future__ import annotations

from typing import ClassVar, NoReturn, Self, SupportsIndex

from invert.errors import InputError


class OneProcess:
    """Copies share what is loaded; to another process it does not go.

    A pickle that loaded the model anew would do so for every task of a pool, unseen.

    Attributes:
        loaded_by: what a process calls to have its own; "" for the class's `load`.
    """

    loaded_by: ClassVar[str] = ""

    def __copy__(self) -> Self:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self.__copy__()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        kind = type(self).__name__
        article, load = "an" if kind[:1] in "AEIO" else "a", self.loaded_by or f"{kind}.load"
        raise InputError(
            f"{article} `{kind}` cannot be pickled: call `{load}` once in each process, for example in a pool's `initializer`"
        )
