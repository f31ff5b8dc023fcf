"""Command lines that take each option once: of two values one would be dropped, and nobody would know which.

`OnceEach` is a command of typer, `OnceParser` a parser of argparse. Flags say the same twice, and options whose values are
collected are repeatable by themselves.
"""

from __future__ import annotations

import argparse
from typing import Any

from typer import Context
from typer.core import TyperCommand

TWICE = "{} is given twice: give it once"


class OnceEach(TyperCommand):
    """A command that takes each option once, but those that are repeatable."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:  # type: ignore[override]  # typer may carry its own click
        words = list(args)
        rest: list[str] = super().parse_args(ctx, args)  # help ends here
        order = self.make_parser(ctx).parse_args(args=words)[2]
        for option in order:
            takes_one = not getattr(option, "multiple", True) and not getattr(option, "is_flag", False)
            if takes_one and order.count(option) > 1:
                ctx.fail(TWICE.format(option.opts[0]))
        return rest


class OnceParser(argparse.ArgumentParser):
    """A parser that takes each option once, but those whose action collects values."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.given: set[str] = set()  # options of the line that is read
        for name in (None, "store"):
            self.register("action", name, StoreOnce)

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:  # what parse_args calls, too
        self.given.clear()
        return super().parse_known_args(*args, **kwargs)


class StoreOnce(argparse.Action):
    """Keeps the value of an option, or refuses its second."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        if isinstance(parser, OnceParser) and option_string is not None:
            if self.dest in parser.given:
                several = f", as in {self.option_strings[0]} 0 1" if self.nargs == "+" else ""
                parser.error(TWICE.format(self.option_strings[0]) + several)
            parser.given.add(self.dest)
        setattr(namespace, self.dest, values)
