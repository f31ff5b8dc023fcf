"""`python -m invert.picturebook draw "a fox above a red umbrella" out.png`, `python -m invert.picturebook objects`."""

from invert.picturebook.commands import main

main()
