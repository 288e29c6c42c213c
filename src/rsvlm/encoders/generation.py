"""Batched generation by transformers, with the scores of what comes out."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rsvlm.encoders.kept_scores import Beams, Greedy, Sampled, ScoreKeeper, mean_scores
from rsvlm.errors import UserError, extra, near
from rsvlm.nn.length_buckets import in_shards

#: What `generate` takes, with the defaults; transformers' `GenerationConfig` says what they do.
OPTIONS: dict[str, Any] = {
    "max_new_tokens": 64,
    "min_new_tokens": 0,
    "num_beams": 1,
    "num_return_sequences": 1,
    "repetition_penalty": 1.0,
    "length_penalty": 1.0,
    "do_sample": False,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 50,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Generated:
    """One text of a language model.

    Attributes:
        ids: its tokens, without padding and without the end token.
        score: sum of the tokens' log-probabilities, as processed by the options, over their number
            to the power of `length_penalty`; the end token counts.
        ended: whether it came to an end token.
        end: which one; None where it was cut.
        states: [T, dim], for each of the T ids the state that it was chosen from; None where they
            were not asked for.
    """

    ids: list[int]
    score: float
    ended: bool
    end: int | None = None
    states: Tensor | None = None


def generate(
    model: Any,
    inputs_embeds: Tensor,
    attention_mask: Tensor,
    end: int | Sequence[int],
    pad: int,
    options: Mapping[str, Any],
    *,
    processors: Sequence[Any] = (),
    states: bool = False,
) -> list[list[Generated]]:
    """Texts that go on from the embeddings.

    Args:
        model: a causal language model of transformers.
        inputs_embeds: [B, L, dim], in the model's dtype.
        attention_mask: [B, L], 1 where a token is; padding on the left.
        end: id of the end token, or several that each end a text.
        pad: id of the padding.
        options: see `OPTIONS`. The repetition penalty sees generated tokens only.
        processors: further ones of transformers' `LogitsProcessor`s, before the penalty.
        states: keep the last hidden states that tokens were chosen from.

    Returns:
        For each row, `num_return_sequences` texts, best first.

    Raises:
        UserError: an unknown option, more texts than beams, no room, or padding on the right.
    """
    inputs = {"inputs_embeds": inputs_embeds, "attention_mask": attention_mask}
    if not states:
        return generate_from(model, inputs, end, pad, options, processors=processors)
    kept: list[Tensor] = []
    # The model's last hidden state, of each step's last position: the others are the prompt's.
    watch = model.base_model.register_forward_hook(
        lambda _, __, output: kept.append(output.last_hidden_state[:, -1])
    )
    try:
        return generate_from(model, inputs, end, pad, options, processors=processors, kept=kept)
    finally:
        watch.remove()


def generate_from(
    model: Any,
    inputs: Mapping[str, Tensor],
    end: int | Sequence[int],
    pad: int,
    options: Mapping[str, Any],
    *,
    processors: Sequence[Any] = (),
    kept: Sequence[Tensor] = (),
) -> list[list[Generated]]:
    """Texts that go on from what a model of transformers takes; see `generate`.

    Args:
        model: a model of transformers that generates.
        inputs: `attention_mask`, `input_ids` or `inputs_embeds`, and whatever else the model takes.
        end: see `generate`, as the others.
        pad: id of the padding.
        options: see `OPTIONS`.
        processors: further ones.
        kept: filled while the model runs: for each step, the states [rows, dim] that it chose from.
    """
    with extra("language"):
        from transformers import (
            GenerationConfig,
            GenerationMixin,
            LogitsProcessorList,
            RepetitionPenaltyLogitsProcessor,
        )

    for word in options:
        if word not in OPTIONS:
            raise UserError(f"generate: {word!r} is not known. {near(word, OPTIONS)}")
    chosen = {**OPTIONS, **options}
    count = chosen["num_return_sequences"]
    if count > 1 and count > chosen["num_beams"] and not chosen["do_sample"]:
        raise UserError(
            f"num_return_sequences={count} needs as many beams: give num_beams={count}."
        )
    mask = inputs["attention_mask"]
    # Of a prompt in ids, transformers gives the ids back.
    prompt = mask.shape[1] if "input_ids" in inputs else 0
    if not bool(mask[:, -1].all()):
        raise UserError("generation needs padding on the left; a row of this batch ends in it.")
    room = model.config.get_text_config().max_position_embeddings - mask.shape[1]
    if chosen["max_new_tokens"] > room:
        raise UserError(
            f"max_new_tokens={chosen['max_new_tokens']}: the prompt leaves room for {room} in the "
            "language model's window."
        )
    warped = _warpers(model, chosen, 1 if isinstance(end, int) else len(end))
    # transformers' own way to the penalty skips as many generated tokens of a row as the row
    # has padding, which it takes for the prompt's; embeddings leave no prompt to skip.
    changes = LogitsProcessorList(processors)
    if chosen["repetition_penalty"] != 1:
        penalty = float(chosen["repetition_penalty"])
        changes.append(RepetitionPenaltyLogitsProcessor(penalty, prompt_ignore_length=prompt))
    ends = [end] if isinstance(end, int) else list(end)
    keeper: ScoreKeeper | None = None
    if warped is not None:
        keeper = Sampled() if chosen["do_sample"] else Greedy()
        if chosen["num_beams"] > 1:
            keeper = Beams(chosen["num_beams"], prompt, ends)
        changes.extend([*warped, keeper])
    # Said outright, as a folder's generation_config.json fills in what is not.
    config = GenerationConfig(
        **{**chosen, "repetition_penalty": 1.0},
        eos_token_id=ends,
        pad_token_id=pad,
        return_dict_in_generate=True,
        output_scores=keeper is None,
    )
    run = model.generate
    if getattr(model.config, "model_type", "") == "janus":
        # Its own way leaves processors out, and guides texts by the scale that is for pictures.
        run = functools.partial(GenerationMixin.generate, model)
        config.guidance_scale = 1.0
    found = run(
        **inputs,
        generation_config=config,
        logits_processor=changes,
        synced_gpus=in_shards(model),
    )
    found.sequences = found.sequences[:, prompt:]
    scores = _scores(model, found, ends, chosen["length_penalty"], keeper)
    rows = [
        _trimmed(ids, score, ends)
        for ids, score in zip(found.sequences.tolist(), scores, strict=True)
    ]
    if kept:
        rows = [
            dataclasses.replace(row, states=_states_of(found, kept, i, len(row.ids)))
            for i, row in enumerate(rows)
        ]
    return [
        sorted(rows[start : start + count], key=lambda row: -row.score)
        for start in range(0, len(rows), count)
    ]


def _states_of(found: Any, kept: Sequence[Tensor], row: int, count: int) -> Tensor:
    """The states that a row's tokens were chosen from; beams change places from step to step."""
    beams = getattr(found, "beam_indices", None)
    places = [row] * count if beams is None else beams[row, :count].tolist()
    if not count:
        return kept[0][:0]
    return torch.stack([kept[step][place] for step, place in enumerate(places)])


#: Further ways of sampling, which a folder's generation_config.json may bring.
_OTHERS = ("min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff", "watermarking_config")


def _warpers(model: Any, chosen: dict[str, Any], ends: int) -> list[Any] | None:
    """What transformers puts behind our processors in sampling, to stand before what keeps scores.

    `chosen` is changed, so that it does not come twice. None where the model's own configuration
    samples in another way besides, which transformers alone puts in its place.
    """
    with extra("language"):
        from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    if not chosen["do_sample"]:
        for word in ("temperature", "top_k", "top_p"):
            chosen.pop(word)
        return []
    own = getattr(model, "generation_config", None)
    if any(getattr(own, word, None) is not None for word in _OTHERS):
        return None
    least = ends + 1 if chosen["num_beams"] > 1 else 1
    made: list[Any] = []
    if chosen["temperature"] not in (None, 1.0):
        made.append(TemperatureLogitsWarper(float(chosen["temperature"])))
    if chosen["top_k"]:
        made.append(TopKLogitsWarper(int(chosen["top_k"]), min_tokens_to_keep=least))
    if chosen["top_p"] is not None and chosen["top_p"] < 1:
        made.append(TopPLogitsWarper(float(chosen["top_p"]), min_tokens_to_keep=least))
    chosen |= {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
    return made


def _scores(
    model: Any, found: Any, ends: Sequence[int], penalty: float, keeper: ScoreKeeper | None
) -> list[float]:
    if keeper is not None:
        return keeper.scores(found, ends, penalty)
    if getattr(found, "sequences_scores", None) is not None:
        return found.sequences_scores.float().tolist()
    steps = model.compute_transition_scores(found.sequences, found.scores, normalize_logits=True)
    return mean_scores(steps.float(), found.sequences, ends, penalty)


def _trimmed(ids: list[int], score: float, ends: Collection[int]) -> Generated:
    for place, token in enumerate(ids):
        if token in ends:
            return Generated(ids[:place], score, True, token)
    return Generated(ids, score, False)
