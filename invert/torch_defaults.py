"""Models and searches do not depend on what is set for all of torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

import torch


class _Float32:
    """The default dtype is the whole process's: while any thread is within, it is float32; the last one out puts it back."""

    def __init__(self) -> None:
        self.lock, self.threads, self.before = Lock(), 0, torch.float32

    def enter(self) -> None:
        with self.lock:
            # One that shows up while another thread is within is a library's, for as long as it reads a model's weights.
            self.before = self.before if self.threads else torch.get_default_dtype()
            self.threads += 1
            self._set(torch.float32)

    def leave(self) -> None:
        with self.lock:
            self.threads -= 1
            if not self.threads and torch.get_default_dtype() == torch.float32:  # else somebody has set it meanwhile
                self._set(self.before)

    def _set(self, dtype: torch.dtype) -> None:
        if torch.get_default_dtype() != dtype:
            torch.set_default_dtype(dtype)


_FLOAT32 = _Float32()


@contextmanager
def usual_torch() -> Iterator[None]:
    """As a decorator or in a `with`: new tensors are float32 and on the CPU, and weights may be differentiated.

    Under `torch.inference_mode` a tensor made now could not be differentiated later; `torch.no_grad`, `torch.autocast`,
    `torch.set_default_dtype` and `torch.set_default_device` are meant for the caller's own tensors, and what is computed under
    autocast would be kept on disk. What was set is set again behind it: all but the default dtype belongs to the thread, and that
    is float32 for every thread until the last one is out.
    """
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        _FLOAT32.enter()
        stack.callback(_FLOAT32.leave)
        yield
