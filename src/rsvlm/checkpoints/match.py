"""Step 5: hold a state dict against the model that is to take it.

Nothing is left out in silence: a name is loaded, listed as allowed to be missing, or an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from rsvlm.errors import UserError, near

#: Most lines of one kind in an error.
_LINES = 6


@dataclass
class Plan:
    """What of a state dict goes where.

    Attributes:
        load: tensors by our names, in the model's shapes.
        rows: tensors that fill the first rows of a grown table.
        fresh: names that stay as they are, under `new`.
        towers: names that stay as they are, under `towers`.
        notes: what was changed on the way.
    """

    load: dict[str, Tensor] = field(default_factory=dict)
    rows: dict[str, Tensor] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)
    towers: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check(
    model: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    *,
    where: str,
    new: Sequence[str] = (),
    towers: Sequence[str] = (),
    elsewhere: Collection[str] = (),
    required: Mapping[str, str] | None = None,
    theirs: Callable[[str], str | None] = lambda _: None,
    image_size: int | None = None,
    interpolate: bool = False,
    corners: bool = False,
    hint: Callable[[], str] = lambda: "",
) -> Plan:
    """Decide what to load.

    Args:
        model: the model's own state dict; only names and shapes are read.
        state: the checkpoint in our names.
        where: the file, for errors.
        new: parts that may be missing and stay fresh; a table that grew by rows keeps the new
            rows fresh. A part is one or more whole components of a name, as `csrm`, `lm.head`.
        towers: parts whose weights come from elsewhere and may be missing.
        elsewhere: whole names that may be missing too.
        required: parts that must be there even within `towers`, and what they are in words.
        theirs: what the file calls one of our names.
        image_size: side of the model's images, pixels.
        interpolate: resize position embeddings of another image size.
        corners: of `resize_positions`.
        hint: says what the file looks like, for an error.

    Raises:
        UserError: names or shapes that do not fit; lists them all, shortened.
    """
    for word, parts in (("init_new", new), ("towers", towers)):
        for part in parts:
            if not any(within(name, [part]) for name in model):
                known = {name.partition(".")[0] for name in model}
                raise UserError(f"{word}: the model has no part {part!r}. {near(part, known)}")
    plan = Plan()
    wrong: list[str] = []
    missing: list[str] = []
    for name, want in model.items():
        tensor = state.get(name)
        if tensor is None:
            if within(name, new):
                plan.fresh.append(name)
            elif (name in elsewhere or within(name, towers)) and not within(name, required or ()):
                plan.towers.append(name)
            else:
                missing.append(name)
        elif tensor.shape == want.shape or tensor.numel() == want.numel() == 1:
            plan.load[name] = tensor.reshape(want.shape)
        elif _grew(tensor, want) and within(name, new):
            plan.rows[name] = tensor
        elif _is_grid(name, tensor, want):
            if not interpolate:
                raise UserError(hint() + _other_size(where, name, tensor, want, image_size))
            plan.load[name] = _resized(name, tensor, want, corners)
            plan.notes.append(
                f"{name} resized from {tensor.shape[-2]} to {want.shape[-2]} positions"
            )
        else:
            wrong.append(f"{name}: {list(tensor.shape)} in the file, {list(want.shape)} here")
    unexpected = [name for name in state if name not in model]
    if not (wrong or missing or unexpected):
        return plan
    told = hint() if wrong or unexpected else ""
    lines = [f"{where} does not fit the model. {told}".rstrip()]
    if missing:
        lines.append(f"{len(missing)} of the model's {len(model)} tensors are missing:")
        lines += _listed(missing)
        lacked = [p for p in required or () if any(within(name, [p]) for name in missing)]
        if required and lacked:
            lines.append(f"It lacks {', '.join(required[part] for part in lacked)}.")
        named = list(dict.fromkeys(filter(None, map(theirs, missing))))
        if named:
            lines += ["in the file's own names:", *_listed(named)]
    if unexpected:
        lines.append(f"{len(unexpected)} tensors of the file have no place in the model:")
        close = len(unexpected) <= _LINES and not told
        lines += [f"  {n} ({near(n, model)})" for n in unexpected] if close else _listed(unexpected)
    if wrong:
        lines.append(f"{len(wrong)} tensors have another shape:")
        lines += [f"  {line}" for line in wrong[:_LINES]]
    if missing and not (wrong or unexpected):
        rest = [name for name in missing if not within(name, lacked)]
        parts = ",".join([*lacked, *sorted({name.partition(".")[0] for name in rest})])
        lines.append(
            "If the file is cut, fetch it again. If these parts are meant to start fresh, name "
            f"them: init_new=[{parts}]."
        )
    raise UserError("\n".join(lines))


def within(name: str, parts: Iterable[str]) -> bool:
    """Whether one of `parts` is a run of whole components of a dotted name."""
    return any(f".{part.strip('.')}." in f".{name}." for part in parts)


def collapse(names: Iterable[str]) -> list[str]:
    """Names in few lines: what differs in its first number, and then in its end, is joined.

    `blocks.0.a, blocks.1.a` gives `blocks.{0-1}.a`; many ends give `blocks.{0-1}.*` with a count
    and an example.
    """
    names = list(names)
    ends: dict[tuple[str, str], list[int]] = {}
    lines: list[str] = []
    for name in names:
        match = re.match(r"(.*?\.)(\d+)(\..*)", name)
        if match is None:
            lines.append(name)
        else:
            ends.setdefault((match[1], match[3]), []).append(int(match[2]))
    joined: dict[str, list[tuple[str, int]]] = {}
    for (head, tail), numbers in ends.items():
        stem = f"{head}{_ranges(sorted(numbers))}"
        joined.setdefault(stem, []).append((tail, len(numbers)))
    for stem, tails in joined.items():
        if len(tails) < _LINES:
            lines += [f"{stem}{tail}" for tail, _ in tails]
        else:
            count = sum(number for _, number in tails)
            lines.append(f"{stem}.* ({count} tensors, such as {stem}{tails[0][0]})")
    return lines


def _ranges(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return str(numbers[0])
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return "{" + ",".join(f"{a}-{b}" if a != b else str(a) for a, b in runs) + "}"


def _listed(names: Iterable[str]) -> list[str]:
    lines = collapse(names)
    more = [f"  and {len(lines) - _LINES} more such lines"] if len(lines) > _LINES else []
    return [f"  {line}" for line in lines[:_LINES]] + more


def _grew(tensor: Tensor, want: Tensor) -> bool:
    return (
        tensor.ndim == want.ndim > 0
        and tensor.shape[1:] == want.shape[1:]
        and tensor.shape[0] < want.shape[0]
    )


def _side(count: int) -> int | None:
    """Side of a square grid behind one class token; None if it is none."""
    side = math.isqrt(max(count - 1, 0))
    return side if side and side * side == count - 1 else None


def _is_grid(name: str, tensor: Tensor, want: Tensor) -> bool:
    """Whether these are position embeddings of images, of two sizes."""
    if not name.endswith(("positional_embedding", "pos_embed")) or name.startswith("text."):
        return False
    # CLIP's are [N, D], EVA's [1, N, D].
    if tensor.ndim != want.ndim or tensor.ndim not in (2, 3) or tensor.shape[:-2].numel() != 1:
        return False
    same_width = tensor.shape[-1] == want.shape[-1]
    return same_width and None not in (_side(tensor.shape[-2]), _side(want.shape[-2]))


def _resized(name: str, tensor: Tensor, want: Tensor, corners: bool) -> Tensor:
    """CLIP's positions are resized with antialiasing as in open_clip, EVA's without as in LAVIS."""
    flat = tensor.reshape(tensor.shape[-2:])
    antialias = not (corners or name.endswith("pos_embed"))
    positions = resize_positions(flat, want.shape[-2], antialias=antialias, corners=corners)
    return positions.reshape(want.shape)


def _other_size(where: str, name: str, tensor: Tensor, want: Tensor, size: int | None) -> str:
    there, here = _side(tensor.shape[-2]), _side(want.shape[-2])
    assert there is not None and here is not None
    pixels = (
        f"{size * there // here} px ({there} x {there} patches)" if size else f"{there} patches"
    )
    own = f"{size} px ({here} x {here})" if size else f"{here} patches"
    word = "model.vision.image_size" if name.startswith("vision.") else "model.image_size"
    tower = name.startswith("vision.tower.")  # of a ClipPatches
    how = "model.vision.positions=bicubic" if tower else "interpolate=True (checkpoints.load)"
    asked = f"{word}={size * there // here}" if size else "the model's image_size"
    return (
        f"{where}: {name} is made for images of {pixels}, the model takes {own}. Build the model "
        f"with {asked}, or ask for interpolated positions with {how}, which costs accuracy until "
        "the model is tuned again."
    )


def resize_positions(
    positions: Tensor, count: int, *, antialias: bool = True, corners: bool = False
) -> Tensor:
    """Position embeddings of a square grid for a grid of another size, bicubic.

    Args:
        positions: [1 + H * H, D], the class token first.
        count: 1 + H' * H' of the result.
        antialias: as open_clip does; LAVIS and MiniGPT-4 do without.
        corners: keep the corners in their places, as GeoChat does; without antialiasing.

    Returns:
        [count, D].
    """
    old, new = _side(len(positions)), _side(count)
    if old is None or new is None:
        raise ValueError(f"{len(positions)} or {count} positions are no class token and a square.")
    grid = positions[1:].float().reshape(1, old, old, -1).permute(0, 3, 1, 2)
    size = (new, new)
    if corners:
        grid = F.interpolate(grid, size=size, mode="bicubic", align_corners=True)
    else:
        grid = F.interpolate(grid, size=size, mode="bicubic", antialias=antialias)
    grid = grid.permute(0, 2, 3, 1).reshape(new * new, -1)
    return torch.cat([positions[:1].float(), grid]).to(positions.dtype)
