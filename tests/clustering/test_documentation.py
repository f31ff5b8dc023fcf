"""Every example in a docstring runs, and importing the package stays light."""

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import clustering

MODULES = [f"clustering.{module.name}" for module in pkgutil.iter_modules(clustering.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_say_what_happens(name):
    import torch

    module = importlib.import_module(name)
    assert doctest.testmod(module, extraglobs={"torch": torch}).failed == 0
    assert module.__doc__


def test_importing_compiles_nothing_and_loads_no_plotting():
    heavy = ("torch", "sklearn", "numba", "triton", "faiss", "matplotlib")
    code = f"import sys, clustering; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_all_that_is_exported_has_a_docstring():
    for name in clustering.__all__:
        assert getattr(clustering, name).__doc__, name
