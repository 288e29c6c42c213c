"""The folder that GeoPix is published as, and how it is written.

`vlm/` (llava-hf's layout), `seg/` (mask decoder), `pec/` (prompt encoder), `clm/` (class memory)
with a `config.json` each, and beside them `image_neck_rough.pth`, `image_neck_detail.pth`,
`text_hidden_fcs.pth` (state dicts), `multiseg_scalar.pth` and `multiscale_scalar.pth` (lists of
scalars that no module holds). Names are read with folder or file in front: `seg.mask_decoder.…`,
`image_neck_rough.conv1.…`, `multiseg_scalar.0`.

The published code hands layer -2 to `image_neck_rough` and layer -11 to `image_neck_detail`; ours
are called by their level, 0 and 1, and `mask_layers` says what each reads.
"""

from __future__ import annotations

from collections.abc import Sequence

from rsvlm.checkpoints.dialects import Dialect, Target
from rsvlm.models.llava.layouts import llava_dialects
from rsvlm.models.pixel.layouts import memory_table, predictor_table, with_words

#: What names a folder of parts as GeoPix's.
SENTINEL = "seg.mask_decoder.iou_token.weight"


def masks_table(memory: bool) -> dict[str, Target]:
    """All that draws masks.

    Args:
        memory: the model has a memory to take the published one.
    """
    table: dict[str, Target] = {}
    for level, name in enumerate(("rough", "detail")):
        for conv in ("conv1", "conv2"):
            table[f"image_neck_{name}.{conv}.1.num_batches_tracked"] = None
        table[f"image_neck_{name}.*"] = f"necks.{level}.*"
    table |= predictor_table(
        "masks.",
        decoder="seg.mask_decoder.",
        prompts="pec.prompt_encoder.",
        text="text_hidden_fcs.",
        levels=2,
    )
    table |= {
        "multiseg_scalar.{}": "masks.token_weights.{}",
        "multiscale_scalar.{}": "masks.level_weights.{}",
    }
    return table | memory_table("clm.", "masks.memory.", dropped=not memory)


#: Rows of the published word tables, which llava-hf fills up.
WORDS = 32064


def geopix_dialects(
    depth: int, tuned: Sequence[str], *, words: int, first: int, new: int, memory: bool
) -> tuple[Dialect, ...]:
    """The published folder, and LLaVA's layouts, which know nothing of masks.

    Args:
        depth: linear layers of the projector.
        tuned: layers that LoRA tunes in ours.
        words: rows of our word tables.
        first: id of the first new word.
        new: number of new words.
        memory: see `masks_table`.
    """
    llava = llava_dialects(depth, tuned, words)
    ends = (("embed_tokens.weight", "new.row"), ("lm_head.weight", "new.head"))
    folders = []
    for dialect in llava:
        if not dialect.name.startswith("llava-hf") or "adapter" in dialect.name:
            continue
        vlm = {f"vlm.{name}": target for name, target in dialect.table.items()}
        vlm = with_words(vlm, ends, first, new, max(WORDS, first + new))
        sentinel = f"vlm.{dialect.sentinels[0]}"
        name = dialect.name.replace("llava-hf", "GeoPix")
        table = {**masks_table(memory), **vlm}
        folders.append(Dialect(name, (sentinel,), table, facts={"variant": "released"}))
    alone = Dialect("GeoPix", (SENTINEL,), masks_table(memory), facts={"variant": "released"})
    return (*folders, alone, *llava)
