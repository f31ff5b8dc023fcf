"""One file per finding: `python -m experiments run NAME` → JSON and pictures under `experiments/results/`.

An experiment is a module with `run(context) -> dict`: what it returns becomes the JSON, the pictures it
draws itself at `context.path(…)`. The first line of its docstring is its entry in `python -m experiments list`.
"""
