"""The layout of transformers' causal language models; ours has one more name in front."""

from __future__ import annotations

from collections.abc import Sequence

from rsvlm.checkpoints.dialects import Dialect, Rows, Target

_CONSTANTS = ("model.layers.{}.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq")


def language_table(
    tuned: Sequence[str] = (), theirs: str = "", ours: str = "model.", words: int | None = None
) -> dict[str, Target]:
    """The lines of a language model within a larger layout.

    Args:
        tuned: layers that LoRA or experts tune in ours (`LanguageModel.tuned`); the file has them
            plain.
        theirs: what stands before every published name.
        ours: what stands before every name of ours.
        words: rows of our word tables; those of a file that come after them carry nothing.
    """
    # Constants that older versions saved.
    table: dict[str, Target] = {f"{theirs}{name}": None for name in _CONSTANTS}
    for layer in tuned:
        table[f"{theirs}{layer}.*"] = f"{ours}{layer}.base_layer.*"
    head: Target = f"{ours}lm_head.weight"
    if words is not None:
        for name in ("model.embed_tokens.weight", "model.decoder.embed_tokens.weight"):
            table[f"{theirs}{name}"] = Rows(f"{ours}{name}", words)
        head = Rows(f"{ours}lm_head.weight", words)
    return table | {f"{theirs}model.*": f"{ours}model.*", f"{theirs}lm_head.weight": head}


def lora_table(tuned: Sequence[str], theirs: str, ours: str, *, named: bool) -> dict[str, Target]:
    """The lines of an adapter of peft.

    Args:
        tuned: layers that LoRA tunes.
        theirs: what stands before every published name.
        ours: what stands before every name of ours.
        named: the adapter's name, `default`, stands in the file's names, as in peft's models from
            0.3 on; not in older ones and in adapter files.
    """
    name = "default." if named else ""
    return {
        f"{theirs}{layer}.lora_{letter}.{name}weight": (
            f"{ours}{layer}.lora_{letter}.default.weight"
        )
        for layer in tuned
        for letter in "AB"
    }


def language_dialects(tuned: Sequence[str] = ()) -> tuple[Dialect, ...]:
    """LLaMA's and OPT's, which differ inside of what is carried over whole."""
    sentinels = ("model.embed_tokens.weight", "model.decoder.embed_tokens.weight")
    return (Dialect("transformers", sentinels, language_table(tuned)),)
