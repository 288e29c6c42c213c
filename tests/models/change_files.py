"""Published files of the change captioners: pickled modules of a package that is not there."""

import sys
import types

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

PACKAGE = "models_Encoder"


def counters(state):
    """A state dict with the step counters that every batch norm's has beside its statistics."""
    full = dict(state)
    for name in state:
        if name.endswith(".running_var"):
            full[name.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
    return full


def grow(kind, tensors):
    """A tree of modules whose state dict is `tensors`."""
    root = kind()
    for name, value in tensors.items():
        *path, leaf = name.split(".")
        node = root
        for part in path:
            if part not in node._modules:
                node.add_module(part, kind())
            node = node._modules[part]
        if leaf.startswith(("running", "num_batches")):
            node.register_buffer(leaf, value)
        else:
            node.register_parameter(leaf, nn.Parameter(value))
    return root


def save_pickled(path, state):
    """Writes what the published training scripts write: whole modules, optimisers, numbers."""

    class Part(nn.Module):
        def __setstate__(self, state):
            raise AssertionError("the file's code ran")

    module = types.ModuleType(PACKAGE)
    Part.__module__, Part.__qualname__ = PACKAGE, "Part"
    module.Part = Part
    sys.modules[PACKAGE] = module
    try:
        parts = sorted({name.partition(".")[0] for name in state})
        content = {"epoch": 3, "epochs_since_improvement": 0, "bleu-4": np.float64(0.4)}
        for part in parts:
            own = {k.partition(".")[2]: v for k, v in state.items() if k.startswith(f"{part}.")}
            content[part] = grow(Part, own)
            first = next(content[part].parameters())
            content[f"{part}_optimizer"] = torch.optim.Adam([first], lr=1e-4)
            content[part].device, content[part].activation = torch.device("cpu"), F.relu
        torch.save(content, path)
    finally:
        del sys.modules[PACKAGE]
    return path
