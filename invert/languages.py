"""The language models of one inverter, each loaded once, and each bundle's words under them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from invert.config import InvertConfig
from invert.errors import InputError

if TYPE_CHECKING:
    import torch

    from invert.bundle import ModelBundle
    from invert.prior.causal_lm import CausalLanguageModel
    from invert.prior.rescoring import Rescorer

MOST_KEPT = 4  # bundles whose words are kept under a model


def check_language(language: Any) -> None:
    """InputError where a language model is named that cannot be had, as far as that is known without loading it."""
    if language is None or not isinstance(language, str):
        return
    if not language.strip():
        raise InputError("`language` is empty: give hf:NAME or a folder, or leave it out")
    if not language.startswith("hf:") and not os.path.isdir(os.path.expanduser(language)):
        raise InputError(f"`language` {language!r} is no folder: give one that transformers saved, or hf:NAME")


class Languages:
    """The language models that were asked for, on one device."""

    def __init__(self, device: torch.device, dtype: torch.dtype | None = None) -> None:
        """dtype: of models on a GPU, where one was chosen; on processors see `load_language_model`."""
        self.device, self.dtype = device, None if device.type == "cpu" else dtype
        self._models: dict[str, CausalLanguageModel] = {}
        self._rescorers: list[tuple[Any, float, ModelBundle, Rescorer]] = []

    def model(self, language: Any) -> CausalLanguageModel:
        """The model of that name, or the one that is given.

        Raises:
            InputError: it cannot be had.
        """
        check_language(language)
        if not isinstance(language, str):
            given: CausalLanguageModel = language
            return given
        if language not in self._models:
            from invert.prior.causal_lm import load_language_model

            self._models[language] = load_language_model(language, self.device, self.dtype)
        return self._models[language]

    def rescorer(self, config: InvertConfig, bundle: ModelBundle) -> Rescorer | None:
        """The bundle's words under the config's language model; None where it names none."""
        if config.language is None:
            return None
        from invert.prior.rescoring import Rescorer

        model = self.model(config.language)
        for of, share, words, found in self._rescorers:
            if of is model and share == config.language_share and words is bundle:
                return found
        made = Rescorer(model, bundle, config.language_share)
        self._rescorers = [*self._rescorers, (model, config.language_share, bundle, made)][-MOST_KEPT:]
        return made
