"""resolve, read, detect, convert, check, load: from what the user typed to a model with weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsvlm.checkpoints.adapter import CONFIG, check_adapter
from rsvlm.checkpoints.dialects import (
    Converted,
    Dialect,
    check_facts,
    convert,
    detect,
    published,
)
from rsvlm.checkpoints.frozen import check_towers, left_out
from rsvlm.checkpoints.hooks import (
    AfterLoad,
    BeforeAssign,
    BeforeFetch,
    BeforeLoad,
    ExplainMismatch,
    Loaded,
    dialects_of,
    facts_of,
)
from rsvlm.checkpoints.match import check, within
from rsvlm.checkpoints.new_parameters import same_tuning, same_width, to_base_layer_names
from rsvlm.checkpoints.read import Contents, read
from rsvlm.checkpoints.resolve import Source, resolve
from rsvlm.checkpoints.save import check_packed
from rsvlm.checkpoints.zoo import Row
from rsvlm.errors import UserError


@dataclass(frozen=True)
class LoadReport:
    """What was loaded.

    Attributes:
        source: as the user named it.
        path: the file or folder here.
        dialect: the layout; `native` is our own.
        row: the zoo row, if the file has one.
        loaded: number of the model's tensors that were filled.
        total: number of the model's tensors.
        fresh: names under `new` that were not in the file.
        towers: names under `towers` that were not in the file.
        dropped: names of the file that its layout knows and that carry nothing.
        notes: what else the user should know.
    """

    source: str
    path: Path
    dialect: str
    row: Row | None
    loaded: int
    total: int
    fresh: tuple[str, ...] = ()
    towers: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Names that were not in the file, all of them allowed."""
        return (*self.fresh, *self.towers)

    def __str__(self) -> str:
        parts = [f"{self.dialect} layout"]
        if self.row is not None:
            parts.append(f"zoo row {self.row.name}")
        for count, words in (
            (len(self.dropped), "dropped by the table"),
            (len(self.fresh), "start fresh"),
            (len(self.towers), "left to towers"),
        ):
            if count:
                parts.append(f"{count} {words}")
        parts += self.notes
        return f"loaded {self.loaded}/{self.total} tensors from {self.source} ({', '.join(parts)})"


def load(
    model: nn.Module,
    source: str | Path,
    *,
    new: Sequence[str] = (),
    towers: Sequence[str] = (),
    part: str | None = None,
    dialects: Sequence[Dialect] | None = None,
    interpolate: bool = False,
    pickled: bool = False,
    rows: Mapping[str, Row] | None = None,
) -> LoadReport:
    """Load a checkpoint into a model, whatever layout it is published in.

    Args:
        model: on any device; what lies on `meta` becomes real on the CPU.
        source: `zoo:<model option>.<tag>`, `hf://org/repo@rev[/path]`, or a path (a file, or a
            folder of parts).
        new: parts that may be missing and stay as they are.
        towers: parts whose weights come from elsewhere.
        part: the model is this part of the checkpoint's model, as `visual` of a CLIP.
        dialects: layouts to try; None takes the model's own.
        interpolate: resize position embeddings of another image size.
        pickled: the file may hold whole modules; take their tensors without running their code.
            Models that are published so say it themselves.
        rows: of the zoo; None takes those that the context was handed (`zoo.handed_in`).

    Raises:
        UserError: the file is not there, damaged, of another model or incomplete, or nothing says
            its activation; one message that says what to do.
    """
    found = resolve(str(source), rows)
    if found.row is not None and isinstance(model, BeforeFetch):
        model.before_fetch(found.row, found.name)
    dialects = dialects_of(model) if dialects is None else dialects
    pickled = pickled or any(dialect.pickled for dialect in dialects)
    contents = read(found.local(), pickled=pickled)
    return load_contents(
        model,
        contents,
        found,
        new=new,
        towers=towers,
        part=part,
        dialects=dialects,
        interpolate=interpolate,
    )


def load_contents(
    model: nn.Module,
    contents: Contents,
    found: Source,
    *,
    new: Sequence[str] = (),
    towers: Sequence[str] = (),
    part: str | None = None,
    dialects: Sequence[Dialect] = (),
    interpolate: bool = False,
) -> LoadReport:
    """The steps after reading; see `load`."""
    where = found.name
    if contents.packed:
        same_width(model, contents, where)
        same_tuning(model, contents, (*new, *towers), where)
        contents = to_base_layer_names(contents, model.state_dict())
    if packed := contents.packed:
        _load_towers(model, contents, where, (*towers, *new))
        towers = (*towers, *left_out(packed))
    own = model.state_dict()
    full = {f"{part}.{name}": value for name, value in own.items()} if part else own
    if not packed and part is None and isinstance(model, BeforeLoad):
        model.before_load(contents, where)
    dialect = None if packed else detect(contents.tensors, dialects, full, where)
    if dialect is not None:
        check_facts(model, dialect, where)
    done = (
        Converted(dict(contents.tensors))
        if dialect is None
        else convert(contents.tensors, dialect, where)
    )
    state = done.state
    if part is not None:
        state = {n: value for n, value in state.items() if n.startswith(f"{part}.")}
        if not state:
            raise UserError(f"{where} has no part {part!r}.")
        state = {name.removeprefix(f"{part}."): value for name, value in state.items()}

    _fill_tied(model, state)

    def theirs(name: str) -> str | None:
        return published(f"{part}.{name}" if part else name, dialect) if dialect else None

    said = facts_of(model)
    plan = check(
        own,
        state,
        where=where,
        new=new,
        towers=towers,
        # Our own checkpoints say themselves what they leave out.
        required=None if packed else said.required,
        elsewhere=() if packed else said.initial,
        theirs=theirs,
        image_size=said.image_size,
        interpolate=interpolate or said.positions != "exact",
        corners=said.positions == "geochat",
        hint=lambda: _explain(model, state),
    )
    empty = [name for name in plan.fresh if own[name].is_meta]
    if empty:
        raise UserError(
            f"{where}: {empty[0]} and {len(empty) - 1} more are to start fresh and have no values "
            "on meta: build the model on the CPU."
        )
    if packed:
        check_towers(model, packed, where)
    if not packed:
        check_adapter(model, plan.load.keys(), contents.configs.get(CONFIG, {}), where)
    loaded = Loaded(plan.load.keys(), contents, found.row, where)
    if isinstance(model, BeforeAssign):
        plan.notes += model.before_assign(loaded)
    assign(model, plan.load, rows=plan.rows)
    if isinstance(model, AfterLoad):
        plan.notes += model.after_load(loaded)
    return LoadReport(
        source=where,
        path=contents.path,
        dialect=dialect.name if dialect else "native",
        row=found.row,
        loaded=len(plan.load) + len(plan.rows),
        total=len(own),
        fresh=tuple(plan.fresh),
        towers=tuple(plan.towers),
        dropped=tuple(done.dropped),
        notes=tuple(plan.notes),
    )


def _fill_tied(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Gives a tensor that is another's under a second name that one's values.

    A language model's head that is its embedding table is written once by transformers.

    Args:
        model: the same tensor under several names is one.
        state: in the model's names; filled in place.
    """
    names: dict[int, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
    for tied in names.values():
        held = next((name for name in tied if name in state), None)
        if held is not None:
            for name in tied:
                state.setdefault(name, state[held])


def _explain(model: nn.Module, state: Mapping[str, Tensor]) -> str:
    text = model.explain_mismatch(state) if isinstance(model, ExplainMismatch) else ""
    return f"{text} " if text else ""


def _load_towers(model: nn.Module, contents: Contents, where: str, given: Sequence[str]) -> None:
    """Loads the frozen towers that a checkpoint of ours leaves to their sources.

    Args:
        model: takes them.
        contents: the checkpoint.
        where: its name, for errors.
        given: parts whose weights come from elsewhere.

    Raises:
        UserError: a source cannot be had.
    """
    assert contents.packed is not None
    wanted: dict[str, list[str]] = {}
    for part, kept in contents.packed["towers"].items():
        if any(not within(name, given) for name in kept["shapes"]):
            wanted.setdefault(kept["source"], []).append(part)
    for source, parts in wanted.items():
        try:
            load(model, source, towers=(*given, *contents.tensors))
        except UserError as error:
            words = " ".join(f"model.{part}.weights={source}" for part in parts)
            raise UserError(
                f"{where} holds no weights of {', '.join(parts)}: they come from {source}, and "
                f"that failed. Give {words} if the model has that word. {error}"
            ) from error


@torch.no_grad()
def assign(
    model: nn.Module, state: Mapping[str, Tensor], *, rows: Mapping[str, Tensor] | None = None
) -> None:
    """Put tensors into a model, in its own dtypes; what lies on `meta` is replaced.

    Args:
        model: the model.
        state: tensors by name, in the model's shapes.
        rows: tensors that fill the first rows only.
    """
    owners = dict(model.named_modules(remove_duplicate=False))
    own = model.state_dict(keep_vars=True)
    made: dict[int, Tensor] = {}
    for name, value in state.items():
        target = own[name]
        if not target.is_meta:
            target.copy_(value)
            continue
        # The copy lets go of a file that may be mapped into memory and overwritten later. Tied
        # tensors stay tied.
        fresh = made.get(id(target))
        if fresh is None:
            fresh = value.detach().to(target.dtype, copy=True).contiguous()
            if isinstance(target, nn.Parameter):
                fresh = nn.Parameter(fresh, requires_grad=target.requires_grad)
            made[id(target)] = fresh
        path, _, leaf = name.rpartition(".")
        owner = owners[path]
        (owner._parameters if leaf in owner._parameters else owner._buffers)[leaf] = fresh
    for name, value in (rows or {}).items():
        if own[name].is_meta:
            raise UserError(
                f"{name} grew from {len(value)} to {len(own[name])} rows, and its new rows have no "
                "values on meta: build the model on the CPU."
            )
        own[name][: len(value)].copy_(value)


def unpack(model: nn.Module, packed: Mapping[str, Any], where: str = "the checkpoint") -> None:
    """Load what `pack` gave; see `check_packed` for the errors."""
    check_packed(model, packed, where)
    assign(model, packed["state_dict"])
