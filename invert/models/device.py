"""The one place that decides which device is used."""

from __future__ import annotations

import torch

from invert.errors import InputError
from invert.given import wrong
from invert.silence import no_warnings


def pick_device(device: str | torch.device | None) -> torch.device:
    """The device asked for; None: a GPU if there is one (CUDA, else Apple's MPS), else the CPU.

    Raises:
        InputError: the device cannot be used here.
    """
    if device is None:
        return torch.device(best_kind())
    try:
        with no_warnings():  # about kinds of devices that are no more
            torch.zeros(1, device=device).item()  # on "meta" there is nothing to compute with
    except TypeError as error:
        raise wrong("device", device, "the name of a device") from error
    except Exception as error:  # torch's backends raise anything from RuntimeError to ModuleNotFoundError
        raise InputError(f'the device {str(device)!r} cannot be used here: try `device="cpu"`') from error
    return torch.device(device)


def best_kind() -> str:
    """The fastest kind of device that is here: "cuda", "mps" or "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
