"""picturebook's own commands: draw a scene, list the objects. `python -m invert.picturebook` runs them."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from PIL import Image

from invert.cli.terminal import complain, say
from invert.errors import InputError
from invert.escape import escaped
from invert.files import check_writable, write_output
from kernels.once import OnceEach

EXAMPLE = '"two owls on a blue background" out.png'


def print_objects() -> int:
    """The names of the objects, one a line; the exit status."""
    from invert.picturebook.world import objects

    for thing in objects():
        say(thing.name)
    return 0


def draw_for(description: str, paths: Sequence[str], seed: int) -> int:
    """`invert --scene DESCRIPTION FILE`: the same as `draw`, with the file among the images."""
    if len(paths) != 1:
        raise InputError(f"`scene` needs one file to write: invert --scene {EXAMPLE}")
    if Path(paths[0]).exists():  # without the scene it would be the picture to invert
        raise InputError(f"{paths[0]} is there already, and `scene` draws into a new file: give another path, or remove it")
    return draw_scene(description, paths[0], seed)


def draw_scene(description: str, path: str, seed: int = 0) -> int:
    """Draw the described scene into the file, and say on stderr how it was understood and what of it was not; the exit status."""
    kind = Image.registered_extensions().get(Path(path).suffix.lower(), "")
    if kind not in Image.SAVE:
        raise InputError(f"cannot write {path}: its ending names no kind of image; give a writable .png path")
    check_writable(path, "scene")
    from invert.picturebook.drawing import drawn
    from invert.picturebook.grammar import caption, left_out, parse

    scene = parse(description, seed)
    image = drawn(scene)
    buffer = io.BytesIO()
    try:
        image.save(buffer, kind)
    except (OSError, ValueError, KeyError) as error:  # kinds that Pillow writes in black and white alone, or not without help
        raise InputError(
            f"cannot write {path}: pictures in color are not written as {kind}; give a path that ends in .png"
        ) from error
    write_output(path, buffer.getvalue())
    print(escaped(caption(scene)), file=sys.stderr)
    if words := left_out(description, scene):
        complain(f"note: not drawn, since picturebook does not know them or has no place for them: {', '.join(words)}")
    return 0


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]})


@app.command(cls=OnceEach)
def draw(
    description: Annotated[str, typer.Argument(help="A scene in words: a fox above a red umbrella on a blue background.")],
    path: Annotated[str, typer.Argument(help="The image file to write, for example out.png.")],
    seed: Annotated[int, typer.Option(help="Chooses what the description leaves open.")] = 0,
) -> None:
    """Draw a scene of picturebook's world."""
    raise typer.Exit(draw_scene(description, path, seed))


@app.command(cls=OnceEach)
def objects() -> None:
    """Print the names of picturebook's objects."""
    raise typer.Exit(print_objects())


def main() -> NoReturn:
    """Entry point of `python -m invert.picturebook`."""
    from invert.cli.failures import guarded
    from invert.cli.interrupts import Interrupts

    words = sys.argv[1:]
    if not words:
        complain("no command given: try `python -m invert.picturebook draw` or `python -m invert.picturebook objects`")
        sys.exit(2)
    sys.exit(
        guarded(lambda: app(words, standalone_mode=False, prog_name="python -m invert.picturebook"), Interrupts(), debug=False)
    )
