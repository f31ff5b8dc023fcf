"""An option that is given twice: lists are joined, of anything else one value would be dropped, and nobody would know which.

Flags say the same twice, and options whose fields are lists are repeatable by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, get_args

from typer import Context
from typer.core import TyperCommand

JOINED = frozenset({"must_include", "ban", "compare", "formats"})  # texts of words that commas separate


class OnceEach(TyperCommand):
    """A command that takes each option once, but those that are repeatable."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:  # type: ignore[override]  # typer may carry its own click
        words = list(args)
        rest: list[str] = super().parse_args(ctx, args)  # help ends here
        order = self.make_parser(ctx).parse_args(args=words)[2]
        for option in order:
            takes_one = not getattr(option, "multiple", True) and not getattr(option, "is_flag", False)
            if takes_one and order.count(option) > 1:
                ctx.fail(f"{option.opts[0]} is given twice: give it once")
        return rest


def as_lists(hints: Mapping[str, Any]) -> dict[str, Any]:
    """The types of a command's options, with those that are joined repeatable."""
    return {name: Annotated[list[str] | None, *get_args(hint)[1:]] if name in JOINED else hint for name, hint in hints.items()}


def default_of(name: str, default: Any) -> Any:
    """The default of an option as `as_lists` declares it."""
    return ([default] if default else None) if name in JOINED else default


def joined(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What was read as the options' fields have it: a list of texts as one, the default where there is none."""
    return {
        name: (defaults[name] if value is None else ",".join(value)) if name in JOINED else value
        for name, value in values.items()
    }
