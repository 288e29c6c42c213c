"""Lines that the layouts of the published change captioners share.

RSICCformer, MModalCC and Chg2Cap descend from one code base and name their parts alike.
"""

from __future__ import annotations

from rsvlm.checkpoints.dialects import Target


def attention(theirs: str, ours: str) -> dict[str, Target]:
    """A `torch.nn.MultiheadAttention` as our `Attention`; names without the dot at their end."""
    parts = [f"{ours}.{letter}_proj" for letter in "qkv"]
    return {
        f"{theirs}.in_proj_weight": tuple(f"{part}.weight" for part in parts),
        f"{theirs}.in_proj_bias": tuple(f"{part}.bias" for part in parts),
        f"{theirs}.out_proj.*": f"{ours}.out_proj.*",
    }


def cross_layer(
    theirs: str, ours: str, attn: str, norms: tuple[int, int], linears: tuple[int, int]
) -> dict[str, Target]:
    """A `CrossLayer`.

    Args:
        theirs: prefix of the published layer.
        ours: prefix of ours.
        attn: the published attention that is used.
        norms: numbers of the published norms after attention and feed-forward part.
        linears: numbers of the published feed-forward layers.
    """
    table = attention(f"{theirs}{attn}", f"{ours}attn")
    for word, numbers in (("norm", norms), ("linear", linears)):
        for place, number in enumerate(numbers, start=1):
            table[f"{theirs}{word}{number}.*"] = f"{ours}{word}{place}.*"
    return table


def conv_block(theirs: str, ours: str) -> dict[str, Target]:
    """A `ConvBlock`: convolutions at 0, 3, 6 and batch norms behind them in a Sequential."""
    table: dict[str, Target] = {}
    for place, number in enumerate((0, 3, 6), start=1):
        table[f"{theirs}{number}.*"] = f"{ours}conv{place}.*"
        table[f"{theirs}{number + 1}.*"] = f"{ours}bn{place}.*"
    return table


def fusion_table(theirs: str, ours: str) -> dict[str, Target]:
    """A `Fusion`."""
    table = conv_block(f"{theirs}resblock.{{}}.left.", f"{ours}blocks.{{}}.")
    return table | {f"{theirs}LN.{{}}.*": f"{ours}norms.{{}}.*"}


def resnet_tower(theirs: str, ours: str, stages: int = 3) -> dict[str, Target]:
    """A `ResNet` whose children stand in a Sequential: stem at 0 and 1, stages from 4 on."""
    table: dict[str, Target] = {
        f"{theirs}0.weight": f"{ours}conv1.weight",
        f"{theirs}1.*": f"{ours}bn1.*",
    }
    for stage in range(1, stages + 1):
        table[f"{theirs}{stage + 3}.*"] = f"{ours}layer{stage}.*"
    return table


def decoder_table(theirs: str, *, cross: str, norms: tuple[int, int, int]) -> dict[str, Target]:
    """A `CaptionDecoder` without gates.

    Args:
        theirs: prefix of the published decoder.
        cross: its attention to the images.
        norms: numbers of the published norms after self attention, attention, feed-forward part.
    """
    layer, ours = f"{theirs}transformer.layers.{{}}.", "decoder.layers.{}."
    table: dict[str, Target] = {
        f"{theirs}vocab_embedding.weight": "decoder.embedding.weight",
        f"{theirs}wdc.*": "decoder.head.*",
        # The sinusoids are computed; the learned positions were switched off.
        f"{theirs}position_encoding.*": None,
        **attention(f"{layer}self_attn", f"{ours}self_attn"),
        **attention(f"{layer}{cross}", f"{ours}cross_attn"),
        f"{layer}linear1.*": f"{ours}linear1.*",
        f"{layer}linear2.*": f"{ours}linear2.*",
    }
    for place, number in enumerate(norms, start=1):
        table[f"{layer}norm{number}.*"] = f"{ours}norm{place}.*"
    return table
