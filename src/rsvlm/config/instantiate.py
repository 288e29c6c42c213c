"""Objects from a configuration; what goes wrong inside is told as it was raised."""

from __future__ import annotations

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate as _instantiate

from rsvlm.errors import UserError


def instantiate(node: Any, **options: Any) -> Any:
    """What a node with a `_target_` describes, its parts first; see `hydra.utils.instantiate`.

    Raises:
        UserError: raised inside of what is built; other errors keep Hydra's words around them.
    """
    try:
        return _instantiate(node, **options)
    except InstantiationException as error:
        cause = cause_of(error)
        if isinstance(cause, UserError):
            raise cause from error
        raise


def cause_of(error: BaseException) -> BaseException:
    """What was raised inside of what Hydra builds, without Hydra's own errors around it."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    return error


def optional(node: Any, **options: Any) -> Any:
    """The same, and None for a node that is empty."""
    return instantiate(node, **options) if node else None
