"""Parameters of the library → flags of the command line, in the sentences of errors.

The library writes parameters in backticks, as Python users do: `max_tokens`, `target="raw"`,
`pez.rate`. Here they become --max-tokens, --target raw and --set pez.rate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

PARAMETER = re.compile(r"`([a-z][a-z0-9_-]*(?:\.[a-z][a-z0-9_]*)?)(?:=([^`]*))?`")
RENAMED = {"as_json": "--json", "method_config": "--set", "settings": "--set"}


_declared: set[str] = set()


def declare(names: Iterable[str]) -> None:
    """From now on these parameters, the fields of the options of the command that runs, are named as flags."""
    _declared.clear()
    _declared.update(names)


def flag(name: str) -> str | None:
    """The flag of a parameter: "max_tokens" → "--max-tokens"; None where there is none."""
    if "." in name:
        return f"--set {name}"
    if name in RENAMED:
        return RENAMED[name]
    return f"--{name.replace('_', '-')}" if name in _declared else None


def translated(sentence: str) -> str:
    """The sentence with every parameter that has a flag as that flag."""

    def replacement(match: re.Match[str]) -> str:
        name, value = match.groups()
        found = flag(name)
        if found is None:
            return match[0]
        if value is None:
            return found
        return f"{found}{'=' if '.' in name else ' '}{value.strip(chr(34) + chr(39))}"

    return PARAMETER.sub(replacement, sentence)
