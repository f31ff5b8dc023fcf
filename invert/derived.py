"""The bundles that a run's own corpus and banned words make of another one, each derived once."""

from __future__ import annotations

from threading import Lock

from invert.bundle import ModelBundle
from invert.config import InvertConfig

MOST_KEPT = 8  # the last ones that were asked for
Key = tuple[ModelBundle, tuple[str, ...], bool, tuple[str, ...]]


class Derived:
    """Derived bundles of one inverter, whose threads may ask at once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: dict[Key, ModelBundle] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, bundle: ModelBundle, config: InvertConfig) -> ModelBundle:
        """The bundle with the config's corpus and banned words; itself where it has none."""
        if not (config.corpus or config.ban):
            return bundle
        _, corpus, extend, ban = key = bundle, config.corpus, config.corpus_mode == "extend", tuple(sorted(config.ban))
        with self._lock:
            if key not in self._kept:
                while len(self._kept) >= MOST_KEPT:
                    del self._kept[next(iter(self._kept))]
                self._kept[key] = bundle.with_(corpus=corpus or None, extend=extend, ban=ban)
            return self._kept[key]
