"""Watches how large tensors get, to hold that work in blocks has flat memory."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Largest(TorchDispatchMode):
    """The most floating-point numbers that any tensor made on the way holds.

    Args:
        least_dims: tensors with fewer dimensions (one number an item) do not count.
    """

    def __init__(self, least_dims=1):
        super().__init__()
        self.least_dims = least_dims
        self.found = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        numbers = isinstance(out, torch.Tensor) and out.is_floating_point()
        if numbers and out.ndim >= self.least_dims:
            self.found = max(self.found, out.numel())
        return out
