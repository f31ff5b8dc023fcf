"""The settings of each method, without anything that needs torch.

They are given as `Inverter.invert(…, method="pez", method_config=PezConfig(lr=0.2))`, or on the command
line as `--set pez.lr=0.2`. Options that all methods share are in `invert.config.InvertConfig`.
"""

from __future__ import annotations

from dataclasses import dataclass

from invert.config import MethodConfig, SearchConfig, SoftConfig, at_least
from invert.config import TextualInversionConfig as TextualInversionConfig


@dataclass(frozen=True)
class NoConfig(MethodConfig):
    """Of a method without settings of its own."""


@dataclass(frozen=True)
class InvertMethodConfig(MethodConfig):
    """Our method: soft prompts, words by projection and concepts, discrete search."""

    lr: float = SoftConfig.lr  # of the soft stage: AdamW's peak learning rate
    temperature_start: float = at_least(1e-6, SoftConfig.temperature_start)
    temperature_end: float = at_least(1e-6, SoftConfig.temperature_end)
    n_starts: int = 6  # retrieved prompts that the search starts from
    n_classes: int = at_least(0, 4)  # likeliest classes of the bundle that it starts from too; see `invert.zero_shot`
    class_weight: float = 1.0  # in the last choice, of the mean cosine of the classes that a prompt names
    token_penalty_slope: float = 0.1  # there, what a token must earn more for each cosine lacking of the usual one
    n_retrieved: int = 320  # prompts, the nearest of the corpus, that starts and phrases are taken from
    n_word_sources: int = 8  # of them, those whose content words are tried everywhere
    n_sparse: int = 0  # words of a sparse combination (SpLiCE) that are tried first
    n_proposed: int = 24  # words of the soft stage that the search tries everywhere
    beam: int = SearchConfig.beam
    rounds: int = SearchConfig.rounds
    replacements: int = SearchConfig.replacements
    first_round_sources: int = SearchConfig.first_round_sources
    insertions: int = SearchConfig.insertions
    n_refined: int = SearchConfig.n_refined
    refine_replacements: int = SearchConfig.refine_replacements
    pair_pool: int = SearchConfig.pair_pool
    pairs: int = SearchConfig.pairs


@dataclass(frozen=True)
class NearestConfig(MethodConfig):
    """Free embeddings, each read as its nearest token."""

    lr: float = 0.5  # in units of the token embeddings' spread
    steps_factor: int = at_least(1, 4)  # gradient steps, in units of `soft_steps`


@dataclass(frozen=True)
class SpliceConfig(MethodConfig):
    """How sparse the combination of words is."""

    l1: float = 0.1  # penalty of a unit of weight, between unit vectors: a larger one leaves fewer words
    n_words: int = at_least(1, 8)  # of the prompt, at most


@dataclass(frozen=True)
class PezConfig(MethodConfig):
    """PEZ with the published settings."""

    steps: int = at_least(1, 3000)
    lr: float = 0.1  # AdamW's, constant
    weight_decay: float = 0.1


@dataclass(frozen=True)
class GcgConfig(MethodConfig):
    """GCG with the published settings."""

    steps: int = at_least(1, 500)
    topk: int = at_least(1, 256)  # tokens tried at a position
    search_width: int = at_least(1, 512)  # candidates a step


@dataclass(frozen=True)
class RandomConfig(MethodConfig):
    """Random search with as many candidates as GCG scores."""

    steps: int = at_least(1, 500)
    search_width: int = at_least(1, 512)  # candidates a step


@dataclass(frozen=True)
class Ph2pConfig(MethodConfig):
    """PH2P: how long and on what the embeddings are optimized."""

    rounds: int = at_least(1, 4)  # projections
    iterations: int = at_least(1, 25)  # of L-BFGS before each: after fewer, the nearest tokens are mostly those it began from
    n_samples: int = at_least(1, 8)  # noises and timesteps of a round
    n_eval_samples: int = at_least(1, 24)  # and those that every projected prompt is judged by, the same for all
    timestep_fraction: float = at_least(0, 0.5, most=1)  # share of the timesteps, counted from the noisy end
