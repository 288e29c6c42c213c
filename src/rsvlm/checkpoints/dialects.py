"""Steps 3 and 4: which layout a checkpoint has, and from its names to ours and back.

A dialect is a literal table from published names to ours:

- `{}` stands for a number and is carried over; `*` at the end stands for any rest;
- a tuple of names takes equal slices along dimension 0 (`in_proj_weight` to q, k, v); None among
  them is a slice that changes nothing, and zeros on the way back;
- `Transposed(name)` marks a matrix that is stored the other way round;
- `Rows(name, count)` takes the first rows of a table that was filled up for speed;
- `Sections(parts, count)` gives named runs of a table's rows, as those of new words;
- None means known and dropped.

A name that no line matches is an error, so nothing is lost in silence, and a table can be read
backwards, which is what `export` does.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

from rsvlm.errors import UserError


@dataclass(frozen=True)
class Transposed:
    """A target whose matrix is stored transposed in the published layout."""

    name: str


@dataclass(frozen=True)
class Rows:
    """A target that takes the first `count` rows; the others carry nothing."""

    name: str
    count: int


@dataclass(frozen=True)
class Sections:
    """Targets that take runs of rows; the others carry nothing.

    Attributes:
        parts: our name, first row, and the row behind the last.
        count: rows of the published table.
    """

    parts: tuple[tuple[str, int, int], ...]
    count: int


Target = str | tuple[str | None, ...] | Transposed | Rows | Sections | None


@dataclass(frozen=True)
class Dialect:
    """A published layout.

    Attributes:
        name: what the report calls it.
        sentinels: names of which any one tells the layout.
        table: published name to ours.
        facts: attributes that the model must have for weights of this layout, as
            `{"variant": "released"}`, where the published code differs from its paper.
        pickled: its files hold whole pickled modules.
    """

    name: str
    sentinels: tuple[str, ...]
    table: Mapping[str, Target]
    facts: Mapping[str, object] = field(default_factory=dict)
    pickled: bool = False


@dataclass
class Converted:
    """A state dict in our names.

    Attributes:
        state: the tensors.
        origin: published name of each.
        dropped: published names that the table drops.
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)


#: Layouts of other families, told by a name of theirs; for errors that say what a file looks like.
FOREIGN: tuple[tuple[str, str], ...] = (
    (r"query_tokens|.*[Qq][Ff]ormer\.", "BLIP-2 (a Q-Former)"),
    (r"encoder_image2\.net\.", "MModalCC"),
    (r"encoder_feat\.transformer\.", "RSICCformer or a relative of it"),
    (r"encoder_trans_dict\.", "Chg2Cap"),
    (r"llama_proj\.|llama_model\.base_model\.", "MiniGPT-v2 (SkyEyeGPT)"),
    (r"(image_encoder|mask_decoder|prompt_encoder)\.", "Segment Anything (SAM)"),
    (r"base_model\.model\..*lora_", "a PEFT adapter without its base model"),
    (r"model\.(mm_projector|vision_tower)\.|multi_modal_projector\.", "LLaVA"),
    (r"(model\.|llama_model\.)?layers\.\d+\.self_attn\.q_proj\.", "a LLaMA-like language model"),
    (r"model\.decoder\.layers\.\d+\.self_attn", "an OPT language model"),
    (r"vision_model\.head\.probe|vision_model\.embeddings\.patch", "SigLIP (Hugging Face layout)"),
    (r"visual\.trunk\.blocks\.\d+\.attn\.qkv", "an open_clip model with a timm tower"),
    (r"text\.transformer\.resblocks\.", "open_clip's CustomTextCLIP"),
    (r"(.*\.)?blocks\.\d+\.attn\.qkv\.", "a DINO, MAE or timm vision transformer"),
    (r"(.*\.)?encoder\.layer\.\d+\.attention\.self\.query", "BERT or a Hugging Face ViT"),
    (r"(.*\.)?layer1\.0\.conv1\.weight", "a ResNet"),
)


@cache
def _pattern(name: str) -> re.Pattern[str]:
    text = re.escape(name).replace(r"\{\}", r"(\d+)")
    if text.endswith(r"\*"):
        text = text[:-2] + "(.+)"
    return re.compile(text)


def _match(pattern: str, name: str) -> bool:
    return _pattern(pattern).fullmatch(name) is not None


def _groups(pattern: str, name: str) -> tuple[str, ...]:
    """What stands in `name` for the `{}` and `*` of a pattern that matches it."""
    match = _pattern(pattern).fullmatch(name)
    return match.groups() if match else ()


def _fill(name: str, groups: Iterable[str]) -> str:
    """`name` with its `{}` and `*` filled in order."""
    for group in groups:
        name = re.sub(r"\{\}|\*$", lambda _, group=group: group, name, count=1)  # type: ignore[misc]
    return name


def targets(target: Target) -> tuple[str, ...]:
    """Our names that one line of a table fills."""
    if target is None:
        return ()
    if isinstance(target, Transposed | Rows):
        return (target.name,)
    if isinstance(target, Sections):
        return tuple(name for name, _, _ in target.parts)
    return tuple(name for name in slices(target) if name is not None)


def slices(target: str | tuple[str | None, ...]) -> tuple[str | None, ...]:
    """Our names of the equal parts of one published tensor."""
    return (target,) if isinstance(target, str) else target


def looks_like(names: Iterable[str]) -> str | None:
    """The family that a state dict's names belong to, among those that are told by name."""
    names = list(names)
    for pattern, family in FOREIGN:
        if any(re.match(pattern, name) for name in names):
            return family
    return None


def detect(
    tensors: Mapping[str, Tensor], dialects: Sequence[Dialect], own: Iterable[str], where: str
) -> Dialect | None:
    """The dialect of a state dict; None for our own names.

    Args:
        tensors: the state dict.
        dialects: layouts that the model can take, the more special ones first.
        own: names of the model itself.
        where: the file, for the error.

    Raises:
        UserError: it is no layout that the model can take; says which family it looks like.
    """
    for dialect in dialects:
        if any(name in tensors for name in dialect.sentinels):
            return dialect
    # Two models of one family share the names of their first blocks at least; strangers share a
    # `logit_scale` at most.
    if 20 * len(set(own) & tensors.keys()) >= len(tensors):
        return None
    family = looks_like(tensors)
    seen = f"It looks like {family}" if family else "It looks like none that is known"
    known = ", ".join(dict.fromkeys(["native", *(dialect.name for dialect in dialects)]))
    raise UserError(
        f"{where} is not a checkpoint of this model. {seen}; its names are such as "
        f"{', '.join(list(tensors)[:3])}. The model takes these layouts: {known}."
    )


def check_facts(model: object, dialect: Dialect, where: str) -> None:
    """Hold a model against what a published layout needs of it.

    Raises:
        UserError: an attribute that differs; says what to ask for.
    """
    wrong = {n: v for n, v in dialect.facts.items() if getattr(model, n, v) != v}
    if wrong:
        have = ", ".join(f"{name}={getattr(model, name)}" for name in wrong)
        want = " ".join(f"model.{name}={value}" for name, value in wrong.items())
        raise UserError(
            f"{where} is a published {dialect.name} checkpoint, which the model with {have} cannot "
            f"stand for: its outputs would not be the published ones. Say {want}, or train anew."
        )


def convert(tensors: Mapping[str, Tensor], dialect: Dialect, where: str) -> Converted:
    """A state dict in our names.

    Args:
        tensors: in the dialect's names.
        dialect: its layout.
        where: the file, for errors.

    Raises:
        UserError: a name that the table does not have; lists the nearest ones that it has.
    """
    done, unknown = Converted(), []
    for name, tensor in tensors.items():
        line = next((line for line in dialect.table if _match(line, name)), None)
        if line is None:
            unknown.append(name)
            continue
        target = dialect.table[line]
        if target is None:
            done.dropped.append(name)
            continue
        if isinstance(target, Sections):
            for own, first, last in target.parts:
                if len(tensor) < last:
                    raise UserError(
                        f"{where}: {name} has {len(tensor)} rows and {own} is in those up to "
                        f"{last}: the new words have other ids there than in this model."
                    )
                done.state[own], done.origin[own] = tensor[first:last], name
            continue
        parts = slices(target) if isinstance(target, str | tuple) else targets(target)
        groups = _groups(line, name)
        ours = [None if each is None else _fill(each, groups) for each in parts]
        if tensor.shape[:1].numel() % len(ours):
            raise UserError(
                f"{where}: {name} has shape {list(tensor.shape)}, which does not divide into "
                f"{len(ours)} equal parts ({', '.join(filter(None, ours))})."
            )
        values = tensor.chunk(len(ours)) if len(ours) > 1 else (tensor,)
        if isinstance(target, Transposed):
            values = (tensor.t(),)
        elif isinstance(target, Rows) and len(tensor) > target.count:
            values = (tensor[: target.count],)
            done.dropped.append(f"{name}[{target.count}:]")
        for part, (each, value) in enumerate(zip(ours, values, strict=True)):
            if each is None:
                done.dropped.append(f"{name}[{part}/{len(ours)}]")
            else:
                done.state[each], done.origin[each] = value, name
    if unknown:
        lines = "\n".join(f"  {name}  {_near(name, dialect)}" for name in unknown[:8])
        more = f"\n  and {len(unknown) - 8} more" if len(unknown) > 8 else ""
        raise UserError(
            f"{where}: {len(unknown)} of {len(tensors)} names are unknown in the {dialect.name} "
            f"layout:\n{lines}{more}"
        )
    return done


def _near(name: str, dialect: Dialect) -> str:
    numbers = re.findall(r"(?<=\.)\d+(?=\.)", name)
    known = [_fill(line, numbers) for line in dialect.table]
    close = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    return f"(near: {', '.join(close)})" if close else "(nothing near it)"


def published(name: str, dialect: Dialect) -> str | None:
    """What a dialect calls one of our names; None if it has no word for it."""
    for line, target in dialect.table.items():
        for ours in targets(target):
            if _match(ours, name):
                return _fill(line, _groups(ours, name))
    return None


def revert(state: Mapping[str, Tensor], dialect: Dialect) -> dict[str, Tensor]:
    """The opposite of `convert`: a state dict in a dialect's names.

    Args:
        state: all tensors of a model, in our names.
        dialect: the layout to write.

    Raises:
        UserError: the dialect has no name for a tensor.
    """
    done: dict[str, Tensor] = {}
    whole: dict[str, Tensor] = {}
    lost = [name for name in state if published(name, dialect) is None]
    if lost:
        raise UserError(
            f"the {dialect.name} layout has no place for {', '.join(lost[:5])}"
            f"{f' and {len(lost) - 5} more' if len(lost) > 5 else ''}."
        )
    for line, target in dialect.table.items():
        ours = targets(target)
        if not ours:
            continue
        if isinstance(target, Sections):
            if ours[0] in state:
                done[line] = whole[line] = _joined(target, state)
            continue
        for name in state:
            if _match(ours[0], name):
                groups = _groups(ours[0], name)
                parts = slices(target) if isinstance(target, tuple) else ours
                none = torch.zeros_like(state[name]) if None in parts else None
                found = [none if each is None else state[_fill(each, groups)] for each in parts]
                values = [value for value in found if value is not None]
                value = torch.cat(values) if len(values) > 1 else values[0]
                theirs = _fill(line, groups)
                if published(name, dialect) != theirs:  # an earlier, more special line has it
                    continue
                done[theirs] = value.t() if isinstance(target, Transposed) else value
    return done | whole


def _joined(target: Sections, state: Mapping[str, Tensor]) -> Tensor:
    """The table that sections were taken from; other rows are the first section's mean."""
    first = state[target.parts[0][0]]
    table = first.float().mean(0).to(first.dtype).expand(target.count, -1).clone()
    for name, start, stop in target.parts:
        table[start:stop] = state[name]
    return table
