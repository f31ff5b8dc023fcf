"""Models and searches do not depend on what is set for all of torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def usual_torch() -> Iterator[None]:
    """As a decorator or in a `with`: new tensors are float32 and on the CPU, and weights may be differentiated.

    Under `torch.inference_mode` a tensor made now could not be differentiated later; `torch.no_grad`, `torch.autocast`,
    `torch.set_default_dtype` and `torch.set_default_device` are meant for the caller's own tensors, and what is computed under
    autocast would be kept on disk. What was set is set again behind it.
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
        if (dtype := torch.get_default_dtype()) != torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, dtype)
        yield
