"""How a kernel of numba's meets tensors of torch's: same memory, same stream, same device.

In: a kernel, its grid and block, its arguments; effect: the launch. Tensors cross by `__cuda_array_interface__`,
so nothing is copied and nothing waits. In numba's simulator (NUMBA_ENABLE_CUDASIM=1) the same kernels run on
CPU tensors, thread by thread: slow, and exact about indices, barriers and alignment.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from numba import config, cuda
from torch import Tensor

SIMULATED = bool(config.ENABLE_CUDASIM)
MOST_THREADS = 1024  # of a block, on every CUDA device so far
REGISTERS = 65_536  # of a multiprocessor, and of a block at most
MOST_BLOCKS_DOWN = 65_535  # of a grid along y and z; x takes 2^31 - 1
config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # a small product is no mistake


def launch(
    kernel: Any, grid: int | tuple[int, int], block: int | tuple[int, int], *arguments: Any, shared_bytes: int = 0
) -> None:
    """Run the kernel on the current stream of the tensors' device; plain numbers among `arguments` pass as they are."""
    tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
    if SIMULATED:
        kernel[grid, block](*(_host_view(argument) for argument in arguments))
        return
    device = tensors[0].device
    with cuda.gpus[device.index]:
        stream = cuda.external_stream(torch.cuda.current_stream(device).cuda_stream)
        kernel[grid, block, stream](*(_device_view(argument) for argument in arguments))


def kernel_for(threads: int, blocks: int = 1) -> Callable[[Any], Any]:
    """cuda.jit with a register cap that lets `blocks` blocks of so many threads share a multiprocessor.

    Without it the compiler may take more than a block of 1,024 threads can have, and the launch fails.
    """
    most = min(255, REGISTERS // (threads * blocks) // 8 * 8)  # registers come in eights
    return cuda.jit if SIMULATED else cuda.jit(max_registers=most)


def flat(tensor: Tensor) -> Tensor:
    """The memory that a strided matrix spans, as one contiguous vector; no copy. Kernels index it by strides."""
    span = 1 + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.detach().as_strided((span,), (1,))


@cache
def multiprocessors(device: torch.device) -> int:
    """How many streaming multiprocessors the device has; the simulator has one."""
    return 1 if SIMULATED else int(torch.cuda.get_device_properties(device).multi_processor_count)


def check_block(block: tuple[int, int]) -> None:
    """Raise ValueError for a thread block that no CUDA device can run."""
    if len(block) != 2 or not all(isinstance(side, int) and side > 0 for side in block):
        raise ValueError(f"block must be two positive whole numbers (x, y), not {block!r}")
    if block[0] * block[1] > MOST_THREADS:
        raise ValueError(f"block {block[0]} x {block[1]} has {block[0] * block[1]} threads: at most {MOST_THREADS} fit")


def _host_view(argument: Any) -> Any:
    """The simulator's array over a CPU tensor's memory; a plain NumPy array it would copy, and refuse if it has gaps."""
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

    return FakeCUDAArray(argument.detach().numpy()) if isinstance(argument, Tensor) else argument


def _device_view(argument: Any) -> Any:
    return cuda.as_cuda_array(argument.detach(), sync=False) if isinstance(argument, Tensor) else argument
