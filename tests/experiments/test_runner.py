"""Where the runner keeps what an experiment found."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from experiments.harness import runner


@pytest.mark.parametrize(
    ("flags", "device", "file"),
    [
        ({}, "cpu", "odd-name.json"),
        ({}, "meta", "odd-name.json"),
        ({"PER_DEVICE": True}, "cpu", "odd-name.json"),
        ({"PER_DEVICE": True}, "meta", "odd-name-meta.json"),
    ],
)
def test_a_devices_figures_lie_beside_the_cpus_where_a_module_says_so(tmp_path, monkeypatch, flags, device, file):
    module = SimpleNamespace(run=lambda context: {"found": str(context.device)}, **flags)
    monkeypatch.setattr(runner, "load", lambda name: module)
    path = runner.run("odd-name", True, 0, torch.device(device), tmp_path)
    assert path == tmp_path / file and f'"found": "{device}"' in path.read_text()
    assert '"experiment": "odd-name"' in path.read_text()
