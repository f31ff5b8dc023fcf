"""Methods by name: what they say of themselves, how others add theirs, and their settings as text."""

from __future__ import annotations

import importlib
from dataclasses import is_dataclass
from importlib.metadata import EntryPoint

import pytest

from invert.config import MethodConfig
from invert.errors import InputError
from invert.inverter import Inverter
from invert.methods import SELECTIVE_OPTIONS, Deferred, Method, get_method, method_names, register
from invert.methods.configs import GcgConfig, InvertMethodConfig, NoConfig, PezConfig
from invert.methods.settings import parse_settings
from invert.methods.task import InversionOutput
from invert.registry import Registry

KNOWN = [name for name in method_names() if "test" not in name]


def constant(prompt: str):
    def run(task, config):
        task.history.report_candidate(prompt, 0.5)
        return InversionOutput([(prompt, 0.5)])

    return run


@pytest.mark.parametrize("name", KNOWN)
def test_every_method_says_what_it_is_and_can_be_imported(name):
    method = get_method(name)
    assert method.name == name and method.revision >= 1 and method.options <= set(SELECTIVE_OPTIONS)
    assert is_dataclass(method.config_type) and issubclass(method.config_type, MethodConfig)
    method.config_type()
    for function in (method.run, method.run_batch, method.prepare):
        if isinstance(function, Deferred):
            module, attribute = function.path.split(":")
            assert callable(getattr(importlib.import_module(module), attribute))


def test_an_unknown_method_is_one_sentence_with_the_name_that_was_meant():
    with pytest.raises(InputError, match=r"unknown method 'pezz' \(did you mean 'pez'\?\): choose one of invert, nearest"):
        get_method("pezz")


def test_a_registered_method_runs_by_its_name(inverter, pictures):
    method = register(Method("test-constant", 1, NoConfig, constant("a fox")))
    assert register(method) is method  # once more is no other
    assert "test-constant" in method_names() and get_method("test-constant") is method
    assert inverter.invert(pictures[0], method="test-constant").prompt == "a fox"
    each = inverter.invert_batch(pictures, method="test-constant")
    assert [result.prompt for result in each] == ["a fox"] * 3


def test_a_name_that_is_taken_is_one_sentence():
    with pytest.raises(InputError, match="there is a method 'pez' already: register yours under another name"):
        register(Method("pez", 1, NoConfig, constant("a fox")))


def test_an_installed_packages_method_is_found_by_its_entry_point(monkeypatch):
    offered = [
        EntryPoint("theirs", "invert.methods.configs:PezConfig", "invert.things"),
        EntryPoint("broken", "no_such_module:thing", "invert.things"),
    ]
    monkeypatch.setattr("invert.registry.entry_points", lambda group: offered if group == "invert.things" else [])
    things: Registry = Registry("thing", "invert.things", {"ours": "invert.methods.configs:GcgConfig"})
    assert things.names() == ("ours", "theirs", "broken")
    assert things.get("ours") is GcgConfig and things.get("theirs") is PezConfig
    with pytest.raises(InputError, match="the thing 'broken' of an installed package cannot be imported: No module named"):
        things.get("broken")


# Settings -----------------------------------------------------------------------------------------


def test_settings_become_the_configs_of_their_methods():
    found = parse_settings(["pez.lr=0.2", " invert.beam = 3", "pez.steps=10"])
    assert found == {"pez": PezConfig(lr=0.2, steps=10), "invert": InvertMethodConfig(beam=3)}
    assert parse_settings([]) == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("pez", "'pez' sets nothing: write METHOD.FIELD=VALUE"),
        ("pez.lr", "sets nothing"),
        ("lr=1", "sets nothing"),
        (".lr=1", "sets nothing"),
        ("pezz.lr=1", "unknown method 'pezz'"),
        (
            "pez.wight_decay=1",
            r"has no setting 'wight_decay' \(did you mean 'weight_decay'\?\): choose one of steps, lr",
        ),
        ("retrieve.k=1", "the method 'retrieve' has no settings of its own"),
        ("pez.steps=many", "`pez.steps` is 'many': give a whole number"),
        ("pez.steps=1.5", "`pez.steps` is '1.5': give a whole number"),
        ("pez.lr=", "`pez.lr` is '': give a number"),
        ("pez.lr=nan", "`pez.lr` is nan: give a number of at least 0"),
        ("pez.steps=0", "`pez.steps` is 0: give a number of at least 1"),
        ("ph2p.timestep_fraction=2", "at least 0 and at most 1"),
    ],
)
def test_settings_that_say_nothing_are_one_sentence(text, sentence):
    with pytest.raises(InputError, match=sentence):
        parse_settings([text])


def test_no_state_is_left_between_inverters(inverter):
    assert Inverter(inverter.bundle).bundle is inverter.bundle
