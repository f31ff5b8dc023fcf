"""Replay of one function: a step of an optimization runs hundreds of small kernels, and launching them is what takes the time.

In: a function of static buffers, always the same kernels in the same order. On CUDA it is captured once and
replayed as one graph; elsewhere it is called. Nothing else differs, so the CPU tests what a card runs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

WARM_UP = 2  # calls before the capture: libraries choose their kernels and take their workspaces in them


class Replay:
    """Calls `step`, on CUDA as a graph from the third call on.

    `step` takes nothing, returns nothing and keeps what it computes in tensors that it owns from the start.
    It may not wait for the device, nor depend on a Python value that changes: a replay repeats the launches
    of the call that was captured. Every call counts as one step, those that warm up included.
    """

    def __init__(self, step: Callable[[], None], device: torch.device) -> None:
        self.step, self.device = step, device
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        if self.device.type != "cuda":
            self.step()
            return
        if self._graph is not None:
            self._graph.replay()
            return
        with torch.cuda.device(self.device):
            if self._calls < WARM_UP:
                self._warm_up()
            else:
                self._graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self._graph):
                    self.step()
                self._graph.replay()  # capturing computes nothing
        self._calls += 1

    def _warm_up(self) -> None:
        """One step on a stream of its own, where autograd leaves nothing behind on the current one."""
        stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            self.step()
        current.wait_stream(stream)
