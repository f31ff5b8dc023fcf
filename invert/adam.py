"""AdamW on one variable, with all that changes from step to step on the variable's device.

`torch.optim.AdamW` reads its rate and its step count from Python, which a captured graph cannot; its
`capturable` form computes powers on the device at every step. Here the rates are known beforehand, and what
follows from them is a table with one row a step. The arithmetic is torch's: on the CPU the results are the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # the usual ones, of Kingma & Ba (arXiv 1412.6980)


class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101) and a rate for each step.

    Attributes:
        variable: float tensor of any shape, moved in place.
        taken: (1,) int64, how many steps it has been moved.
    """

    def __init__(self, variable: Tensor, rates: Sequence[float], weight_decay: float = 0.0) -> None:
        """rates: the learning rate of every step that will be taken."""
        self.variable, self.weight_decay = variable, weight_decay
        self.mean, self.mean_square = torch.zeros_like(variable), torch.zeros_like(variable)
        self.taken = torch.zeros(1, dtype=torch.int64, device=variable.device)
        rows = [
            (1 - rate * weight_decay, -rate / (1 - BETA_1**step), math.sqrt(1 - BETA_2**step))
            for step, rate in enumerate(rates, 1)
        ]
        schedule = torch.tensor(rows, dtype=torch.float64).reshape(-1, 3)
        self._schedule = schedule.to(variable.dtype).to(variable.device)  # in two steps: MPS has no float64

    @torch.no_grad()
    def update(self, gradient: Tensor) -> None:
        """Move the variable down its gradient, by this step's rate."""
        shrink, step_size, correction = self._schedule.index_select(0, self.taken)[0].unbind()
        gradient = gradient.to(self.variable.dtype)
        if self.weight_decay:
            self.variable.mul_(shrink)
        self.mean.lerp_(gradient, 1 - BETA_1)
        self.mean_square.mul_(BETA_2).addcmul_(gradient, gradient, value=1 - BETA_2)
        denominator = (self.mean_square.sqrt() / correction).add_(EPSILON)
        self.variable.add_((self.mean * step_size).div_(denominator))
        self.taken.add_(1)
