"""How every test runs: one thread a worker, and examples that neither the clock nor chance decides."""

from __future__ import annotations

import gc
import os

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores; before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import HealthCheck, settings

# Modules and collected tests stay to the end: each search through them for garbage would take up to a second.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


# A busy machine may not fail a test: no deadline, no limit on how long examples take to be made up.
STEADY = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("quick", **STEADY, max_examples=20, derandomize=True)
settings.register_profile("thorough", **STEADY, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
