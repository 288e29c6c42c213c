"""The layout that EVA-ViT is published in: LAVIS' `eva_vit_g.pth`, and inside of larger models."""

from __future__ import annotations

from collections.abc import Collection

from rsvlm.checkpoints.dialects import Dialect, Target


def eva_table(
    depth: int, theirs: str = "", ours: str = "", tuned: Collection[str] = ()
) -> dict[str, Target]:
    """The published layout of an EVA-ViT.

    Args:
        depth: blocks of our tower; later ones of a file, and its heads, carry nothing for us.
        theirs: what stands before every published name, as `visual_encoder.`.
        ours: what stands before every name of ours, as `vision.`.
        tuned: layers of our tower that LoRA tunes (`EvaViT.tuned`); the file has them plain.
    """
    block = "blocks.{}."
    names = [
        "norm1.weight",
        "norm1.bias",
        "attn.q_bias",
        "attn.v_bias",
        "attn.qkv.weight",
        "attn.proj.weight",
        "attn.proj.bias",
        "norm2.weight",
        "norm2.bias",
        "mlp.fc1.weight",
        "mlp.fc1.bias",
        "mlp.fc2.weight",
        "mlp.fc2.bias",
    ]
    table: dict[str, Target] = {f"{theirs}blocks.{depth}.*": None}
    table[f"{theirs}cls_token"] = f"{ours}cls_token"
    table[f"{theirs}pos_embed"] = f"{ours}pos_embed"
    table[f"{theirs}patch_embed.proj.weight"] = f"{ours}patch_embed.weight"
    table[f"{theirs}patch_embed.proj.bias"] = f"{ours}patch_embed.bias"
    for name in names:
        layer, _, leaf = f"{block}{name}".rpartition(".")
        base = ".base_layer" if layer in tuned else ""
        table[f"{theirs}{block}{name}"] = f"{ours}{layer}{base}.{leaf}"
    # The classification head, its norms and the pre-training leftovers of EVA's own file.
    for name in ("norm.*", "fc_norm.*", "head.*", "mask_token", "lm_head.*"):
        table[f"{theirs}{name}"] = None
    return table


def eva_dialect(depth: int, tuned: Collection[str] = ()) -> Dialect:
    """`eva_vit_g.pth`, for a tower of that many blocks, some of their layers tuned by LoRA."""
    return Dialect("eva_vit_g", ("patch_embed.proj.weight",), eva_table(depth, tuned=tuned))
