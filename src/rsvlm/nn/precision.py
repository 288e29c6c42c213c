"""Where float32 has to stay float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def no_autocast(device_type: str) -> AbstractContextManager:
    """Autocast off; `meta` has none."""
    if device_type == "meta":
        return nullcontext()
    return torch.autocast(device_type, enabled=False)
