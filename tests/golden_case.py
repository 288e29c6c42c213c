"""Reads a parity case: its sizes, its stored tensors, and the values that it does not store.

A case ships no weights. Each value follows from the case's salt, the tensor's published name and
its shape, through NumPy's `RandomState`, whose stream is fixed for good.
"""

import json
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file


def noise(name, shape, salt):
    """Standard normal float32 of that shape."""
    drawn = np.random.RandomState(zlib.crc32(f"{salt}/{name}".encode()))
    return torch.from_numpy(drawn.standard_normal(tuple(shape)).astype(np.float32).copy())


def weight(name, shape, salt):
    """The value of one published parameter or buffer: noise, scaled by what the name says it is."""
    drawn = noise(name, shape, salt)
    last = name.rsplit(".", 1)[-1]
    if last == "running_var":
        return 0.5 + drawn.abs()
    if last == "running_mean":
        return 0.1 * drawn
    if last in ("bias", "q_bias", "v_bias", "in_proj_bias"):
        return 0.02 * drawn
    if len(shape) <= 1:
        return 1.0 + 0.1 * drawn
    if len(shape) > 5:  # a bank of feature maps, without a fan-in
        return drawn
    return drawn / math.sqrt(math.prod(shape[1:]))


@dataclass
class Case:
    """A parity case."""

    spec: dict
    tensors: dict

    def inputs(self):
        """Inputs that are noise."""
        return {n: noise(n, s, self.spec["salt"]) for n, s in self.spec["inputs"].items()}

    def state(self):
        """The published state dict."""
        return {n: weight(n, s, self.spec["salt"]) for n, s in self.spec["state"].items()}


def read_case(folder: Path) -> Case:
    """Reads case.json and tensors.safetensors."""
    spec = json.loads((folder / "case.json").read_text())
    return Case(spec, load_file(folder / "tensors.safetensors"))
