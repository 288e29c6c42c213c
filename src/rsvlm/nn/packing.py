"""Several dialogues in one row without padding, and questions on one image behind one copy of it.

A dialogue keeps its own positions and sees itself alone, so that losses and gradients are those of
separate rows. Where dialogues begin alike, up to their last image, the beginning can stand once: it
reads itself alone in any case, and each dialogue goes on from it. Attention runs dialogue by
dialogue, without a mask of the whole row, by transformers' own function of scaled dot products.

Dropout is drawn once for a shared beginning, where separate rows draw it for each dialogue. The
term that balances experts counts its tokens as often as dialogues go on from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from rsvlm.errors import UserError, extra, near

IGNORE = -100
#: `none`: a row each, padded; `rows`: all in one row; `shared`: also one copy of a beginning.
PACKING = ("none", "rows", "shared")
#: The name under which transformers knows `packed_attention`.
NAME = "rsvlm_packed"


@dataclass(frozen=True, slots=True)
class Embedded:
    """What a language model reads.

    Attributes:
        inputs_embeds: [B, L, dim].
        attention_mask: [B, L], 1 where a token is.
        labels: [B, L], -100 where nothing is learned.
    """

    inputs_embeds: Tensor
    attention_mask: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True)
class Span:
    """A run of tokens that belong together.

    Attributes:
        start: its first place in the row.
        stop: behind its last.
        before: first place and end of the beginning that it goes on from.
    """

    start: int
    stop: int
    before: tuple[int, int] | None = None


@dataclass(slots=True)
class Plan:
    """Where what stands in a packed row.

    Attributes:
        spans: in order; together they are the row.
        positions: [1, T] long, of each token within its dialogue.
        counts: [1, T] long, how many dialogues a token stands for.
        calls: how many layers have read the plan.
    """

    spans: list[Span]
    positions: Tensor
    counts: Tensor
    calls: int = field(default=0, compare=False)

    @property
    def longest(self) -> int:
        """Tokens of the longest dialogue."""
        return int(self.positions.max()) + 1


def check(packing: str, *, joint: bool) -> str:
    """The word, where it is known and fits the bridge.

    Args:
        packing: see `PACKING`.
        joint: the bridge reads all images of a dialogue at once.

    Raises:
        UserError: it does not.
    """
    if packing not in PACKING:
        raise UserError(f"model.packing={packing!r} is not known. {near(str(packing), PACKING)}")
    if packing == "shared" and joint:
        raise UserError(
            "model.packing=shared puts an image once before several questions, and this model's "
            "bridge reads an image anew for each question: set model.packing=rows."
        )
    return packing


def keys_of(
    batch: Any, visual: Sequence[Tensor] | Tensor, image_token_id: int | None
) -> list[list[int]]:
    """What stands at each place of each dialogue: ids, negative numbers for visual embeddings.

    Args:
        batch: a `ChatBatch`.
        visual: for each dialogue its [P, dim], of a bridge that reads each image alone.
        image_token_id: see `VisionLanguageModel`.
    """
    ids, mask = batch.input_ids.cpu(), batch.attention_mask.cpu().bool()
    rows = []
    for row, seen, shown, vectors in zip(ids, mask, batch.image_rows, visual, strict=True):
        words = row[seen].tolist()
        size = len(vectors) // len(shown) if shown else 0
        seats = iter([-1 - image * size - k for image in shown for k in range(size)])
        if image_token_id is None:
            rows.append([*seats, *words])
        else:
            rows.append([next(seats) if word == image_token_id else word for word in words])
    return rows


def pack(embedded: Embedded, keys: list[list[int]] | None = None) -> tuple[Embedded, Plan]:
    """All dialogues in one row, in order.

    Args:
        embedded: padded on either side.
        keys: of `keys_of`; dialogues with the same ones up to their last image share what they have
            in common at the beginning. None shares nothing.

    Returns:
        The row [1, T, ...] and what is where in it.
    """
    mask, labels = embedded.attention_mask.cpu().bool(), embedded.labels.cpu()
    width = mask.shape[1]
    places = [row.nonzero()[:, 0] + i * width for i, row in enumerate(mask)]
    learned = labels.flatten() != IGNORE
    # The token before the first one that is learned predicts it, and has to be the dialogue's own.
    limits = [_first(learned[row]) - 1 for row in places]
    spans: list[Span] = []
    source, positions, counts = [], [], []

    def put(row: Tensor, first: int, count: int, before: tuple[int, int] | None = None) -> Span:
        start = spans[-1].stop if spans else 0
        spans.append(Span(start, start + len(row), before))
        source.append(row)
        positions.append(torch.arange(first, first + len(row)))
        counts.append(torch.full((len(row),), count))
        return spans[-1]

    for rows, shared in _groups(len(places), keys, limits):
        before = None
        if shared:
            front = put(places[rows[0]][:shared], 0, len(rows))
            before = (front.start, front.stop)
        for i in rows:
            put(places[i][shared:], shared, 1, before)
    device = embedded.inputs_embeds.device
    index = torch.cat(source)
    kept = labels.flatten()[index]
    kept[[span.start for span in spans]] = IGNORE  # nothing within a dialogue predicts its first
    plan = Plan(spans, torch.cat(positions)[None].to(device), torch.cat(counts)[None].to(device))
    row = replace(
        embedded,
        inputs_embeds=embedded.inputs_embeds.flatten(0, 1)[index.to(device)][None],
        attention_mask=torch.ones_like(plan.counts),
        labels=kept[None].to(device),
    )
    return row, plan


def rows_of(lengths: Tensor) -> Plan:
    """The plan of rows that lie whole behind each other.

    Args:
        lengths: [B], tokens of each.
    """
    ends = lengths.cumsum(0)
    spans = [Span(end - n, end) for end, n in zip(ends.tolist(), lengths.tolist(), strict=True)]
    first = (ends - lengths).repeat_interleave(lengths)
    positions = (torch.arange(len(first), device=lengths.device) - first)[None]
    return Plan(spans, positions, torch.ones_like(positions))


def _first(learned: Tensor) -> int:
    """The place of the first token that is learned, or the length."""
    return int(learned.int().argmax()) if bool(learned.any()) else len(learned)


def _groups(
    count: int, keys: list[list[int]] | None, limits: list[int]
) -> list[tuple[list[int], int]]:
    """Dialogues that share a beginning, and how long it is."""
    if keys is None:
        return [([i], 0) for i in range(count)]
    heads: dict[Any, list[int]] = {}
    for i, row in enumerate(keys):
        end = next((k for k in range(len(row), 0, -1) if row[k - 1] < 0), 0)
        heads.setdefault(tuple(row[:end]) if end else i, []).append(i)
    found: list[tuple[list[int], int]] = []
    for rows in heads.values():
        alike = 0
        if len(rows) > 1:
            limit = min(limits[i] for i in rows)
            columns = zip(*(keys[i][: max(limit, 0)] for i in rows), strict=True)
            alike = next((k for k, column in enumerate(columns) if len(set(column)) > 1), limit)
        found += [(rows, alike)] if alike > 0 else [([i], 0) for i in rows]
    return found


# The language model's part ---------------------------------------------------------------------


def packed_hidden(model: Any, inputs_embeds: Tensor, plan: Plan) -> Tensor:
    """Last hidden states [1, T, dim] of a packed row.

    Args:
        model: a causal language model of transformers.
        inputs_embeds: [1, T, dim], in the model's dtype.
        plan: of `pack`.

    Raises:
        UserError: the model's attention is not transformers' own.
    """
    _prepare(model)
    hidden = model.base_model(
        inputs_embeds=inputs_embeds,
        # Four dimensions: transformers hands it on as it is, and makes no mask of the whole row.
        attention_mask=inputs_embeds.new_ones(1, 1, 1, 1, dtype=torch.bool),
        position_ids=plan.positions,
        use_cache=False,
        packed=plan,
    ).last_hidden_state
    if plan.calls < model.config.get_text_config().num_hidden_layers:
        raise _unfit(model)
    return hidden


def _prepare(model: Any) -> None:
    """Makes a model attend by `packed_attention`, which without a plan is what it was before."""
    now = model.config._attn_implementation
    if now == NAME:
        return
    if now != "sdpa":
        raise _unfit(model)
    with extra("language"):
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def _unfit(model: Any) -> UserError:
    return UserError(
        f"{type(model).__name__} does not attend by transformers' function of scaled dot products, "
        "which packed rows need: set model.packing=none."
    )


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packed: Plan | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention within the dialogues of a packed row, as transformers calls it.

    Args:
        module: a layer's attention.
        query: [1, H, T, D].
        key: [1, K, T, D].
        value: [1, K, T, D].
        attention_mask: of rows that are not packed.
        packed: the plan; None attends as always.
        **options: of transformers' function.

    Returns:
        [1, T, H, D].

    Raises:
        UserError: a window of attention that is shorter than a dialogue.
    """
    with extra("language"):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if packed is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    packed.calls += 1
    window = options.get("sliding_window")
    if window is not None and window < packed.longest:
        raise UserError(
            f"the language model attends within {window} tokens, and a packed dialogue has "
            f"{packed.longest}: set model.packing=none."
        )
    # Split and not sliced: each slice would have a gradient as long as the whole row.
    sizes = [span.stop - span.start for span in packed.spans]
    queries, every_key, every_value = (x.split(sizes, dim=2) for x in (query, key, value))
    place = {(span.start, span.stop): i for i, span in enumerate(packed.spans)}
    parts = []
    for span, new, asked, keys, values in zip(
        packed.spans, sizes, queries, every_key, every_value, strict=True
    ):
        mask = None
        if span.before is not None:
            front, old = place[span.before], span.before[1] - span.before[0]
            keys = torch.cat([every_key[front], keys], dim=2)
            values = torch.cat([every_value[front], values], dim=2)
            mask = torch.ones(new, old + new, dtype=torch.bool, device=key.device).tril(old)
            mask = mask[None, None]
        parts.append(sdpa_attention_forward(module, asked, keys, values, mask, **options)[0])
    return torch.cat(parts, dim=1), None
