"""Building a model whose weights a file gives, without drawing random ones first.

Drawing seven billion numbers takes a minute and touches all of their memory, only for a checkpoint
to take their place. Large tensors alone are left out: small models are drawn as ever, and so are
the small parts of large ones.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rsvlm.checkpoints.load import LoadReport

#: Parameters with fewer numbers are drawn: they cost nothing.
LEAST = 2**20
_DRAWS = {"aten::normal_", "aten::uniform_"}
#: What follows a draw where a distribution is made of another one.
_SHAPES = {"aten::erfinv_", "aten::mul_", "aten::add_", "aten::clamp_"}


class Undrawn(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Leaves large parameters as they were allocated, while modules are built within it.

    Args:
        least: numbers of the smallest parameter that is left out; None takes `LEAST`.
    """

    def __init__(self, least: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.least = LEAST if least is None else least
        self._left: dict[int, weakref.ref[Tensor]] = {}
        self._versions: list[tuple[weakref.ref[Tensor], int]] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Runs an operation, unless it draws a large parameter."""
        target = args[0] if args else None
        if isinstance(target, nn.Parameter) and not target.is_meta:
            name = func._schema.name
            if name in _DRAWS and target.numel() >= self.least:
                self._left[id(target)] = weakref.ref(target)
                return target
            if self._is_left(target):
                if name in _SHAPES and not any(_is_large(one) for one in args[1:]):
                    return target
                if func._schema.is_mutable:
                    del self._left[id(target)]
        return func(*args, **(kwargs or {}))

    def _is_left(self, target: Tensor) -> bool:
        left = self._left.get(id(target))
        return left is not None and left() is target

    def __exit__(self, *error: object) -> None:
        """Remembers what was left out."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        kept = ((left, left()) for left in self._left.values())
        self._versions = [(left, tensor._version) for left, tensor in kept if tensor is not None]

    def left_in(self, model: nn.Module) -> list[str]:
        """Names of parameters that nothing has written into to this day; after the building."""
        empty = {
            id(tensor)
            for left, version in self._versions
            if (tensor := left()) is not None and tensor._version == version
        }
        return [name for name, one in model.named_parameters() if id(one) in empty]


def _is_large(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0


def built_and_loaded(
    make: Callable[[], Any],
    load: Callable[[Any], LoadReport],
    keeps: Callable[[Any], bool] = lambda _: False,
) -> tuple[Any, LoadReport]:
    """A model with a checkpoint's weights; what the checkpoint leaves is what the seed gives.

    Args:
        make: builds the model and sets its seed.
        load: loads the checkpoint.
        keeps: whether parts of the model are to stay as they were drawn.
    """
    undrawn = Undrawn()
    with undrawn:
        model = make()
    if keeps(model) and undrawn.left_in(model):
        del model
        model = make()
    report = load(model)
    if undrawn.left_in(model):
        del model
        model = make()
        report = load(model)
    return model, report
