"""What processes of `torch.distributed` tell each other, so that each has other rows and all find the same centers.

In: sums and samples of one process's rows; out: those of all rows, the same in every process. Without a group there
is one process, and nothing is sent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Workers:
    """The processes of a group. group: None (this process alone), "world" or a process group."""

    def __init__(self, group: Any = None) -> None:
        self.group, self.rank, self.count = None, 0, 1
        if group is None:
            return
        import torch.distributed as dist

        if not dist.is_available() or not dist.is_initialized():
            raise ValueError("group needs torch.distributed: call torch.distributed.init_process_group first, or run torchrun")
        self.group = dist.group.WORLD if isinstance(group, str) and group == "world" else group
        if not isinstance(self.group, dist.ProcessGroup):
            raise ValueError(f"group must be None, 'world' or a process group of torch.distributed, not {group!r}")
        self.rank, self.count = dist.get_rank(self.group), dist.get_world_size(self.group)

    def total(self, tensor: Tensor) -> Tensor:
        """The sum of every process's tensor."""
        if self.group is None:
            return tensor
        import torch.distributed as dist

        tensor = tensor.clone()
        dist.all_reduce(tensor, group=self.group)
        return tensor

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, tensors in main memory, in the order of ranks."""
        if self.group is None:
            return [value]
        import torch.distributed as dist

        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, value, group=self.group)
        return found

    def joined(self, tensor: Tensor) -> Tensor:
        """Every process's rows, one after the other, on this tensor's device."""
        if self.group is None:
            return tensor
        return torch.cat(self.gather(tensor.cpu())).to(tensor.device)
