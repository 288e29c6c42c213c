"""SkyCLIP: CLIP trained on with SkyScript, captions made from OpenStreetMap's tags.

Wang, Prabha, Huang, Wu, Rajagopal, 2024, "SkyScript: A Large and Semantically Diverse Vision-
Language Dataset for Remote Sensing", AAAI (arXiv 2312.12856), and the code at
wangzhecheng/SkyScript.

Recipe (README): L/14 from OpenAI's weights, B/32 from LAION's `laion2b_e16`; AdamW (0.9, 0.98,
1e-6), learning rate 3e-9 (L/14) or 1e-9 (B/32), weight decay 1.0, 20 epochs, cosine with 1,000
steps of warm-up, batch 4 x 128, mixed precision. The learning rates are that small in the README's
command; the paper's body does not give them. Images: timm's random crop of 0.67 to 1.0 of the area
with ratio 0.5 to 2.0, colour jitter 0.4, rotation by 0, 90, 180 or 270 degrees, no flip.

A file is a zip around `<name>/epoch_20.pt`, an open_clip training checkpoint whose names start with
`module.`. L/14 is QuickGELU (the authors force it), B/32 is GELU, as their starting points.
The paper's classification numbers are on its own splits (AID: 2,000 images); they do not compare
with GeoRSCLIP's. The average is over the seven sets AID to RSI-CB256.
"""

from __future__ import annotations

from typing import Any

from rsvlm.checkpoints.zoo import Row

_SETS = ("aid", "eurosat", "fmow", "millionaid", "patternnet", "nwpu", "rsicb")
_FINE = ("roof_shape_v1", "smoothness_v1", "surface_v1")


def _table2(own: float, *values: float) -> dict[str, float]:
    """A line of Table 2: SkyScript's own classes, seven sets, their mean, three fine ones."""
    names = ("skyscript_cls", *_SETS, "skyscript_suite", *_FINE)
    return {
        f"{name}/skyscript/top1": value for name, value in zip(names, (own, *values), strict=True)
    }


def _table3(**pairs: tuple[float, float]) -> dict[str, float]:
    """Mean recalls of Table 3, image to text and text to image."""
    return {
        f"{name}/skyscript/{way}_mean_recall": value
        for name, pair in pairs.items()
        for way, value in zip(("i2t", "t2i"), pair, strict=True)
    }


def _row(model: str, tag: str, name: str, **facts: Any) -> Row:
    return Row(
        model=model,
        tag=tag,
        uri=f"https://opendatasharing.s3.us-west-2.amazonaws.com/SkyScript/ckpt/{name}.zip",
        # The zip, and the folder that it unpacks to.
        files=(f"{name}.zip", name),
        licence="MIT (the repository's)",
        paper="2312.12856",
        homepage="https://github.com/wangzhecheng/SkyScript",
        **facts,
    )


_L14: dict[str, Any] = {"arch": "ViT-L-14", "activation": "quick_gelu"}

ROWS = (
    _row(
        "skyclip_vitb32",
        "top50",
        "SkyCLIP_ViT_B32_top50pct",
        arch="ViT-B-32",
        activation="gelu",
        metrics=_table2(
            *(52.98, 70.90, 33.30, 19.24, 62.69, 72.18, 66.67, 46.20, 53.02),
            *(26.00, 38.00, 67.73),
        ),
    ),
    _row(
        "skyclip_vitl14",
        "top50",
        "SkyCLIP_ViT_L14_top50pct",
        metrics=_table2(
            *(70.89, 71.70, 51.33, 27.12, 67.45, 80.88, 70.94, 50.09, 59.93),
            *(46.83, 35.80, 67.50),
        ),
        notes="the README's last line names the B/32 file for it by mistake",
        **_L14,
    ),
    _row(
        "skyclip_vitl14",
        "top30",
        "SkyCLIP_ViT_L14_top30pct",
        metrics=_table2(
            *(69.08, 72.15, 52.44, 27.77, 66.40, 79.67, 70.77, 50.19, 59.91),
            *(46.17, 30.80, 64.32),
        ),
        **_L14,
    ),
    _row(
        "skyclip_vitl14",
        "top30_laion_rs",
        "SkyCLIP_ViT_L14_top30pct_filtered_by_CLIP_laion_RS",
        metrics={"skyscript_suite/skyscript/top1": 60.69},
        notes="training pairs chosen by CLIP-LAION-RS instead of OpenAI's CLIP",
        **_L14,
    ),
    _row(
        "skyclip_vitl14",
        "top30_multi_objects",
        "SkyCLIP_ViT_L14_top30pct_multi_objects",
        metrics=_table3(
            skyscript_retrieval=(8.53, 7.73),
            rsicd=(23.70, 19.97),
            rsitmd=(30.75, 30.58),
            ucm_captions=(72.22, 59.33),
        ),
        notes="captions of all objects (`title_multi_objects`); the retrieval rows of Table 3",
        **_L14,
    ),
    _row(
        "skyclip_vitl14",
        "laion_rs",
        "CLIP_ViT_L14_LAION_RS",
        metrics={
            **_table2(
                *(58.81, 71.70, 54.30, 27.21, 60.77, 72.68, 71.21, 48.21, 57.87),
                *(40.50, 37.60, 53.41),
            ),
            **_table3(
                skyscript_retrieval=(3.85, 2.81),
                rsicd=(22.66, 18.52),
                rsitmd=(30.24, 29.67),
                ucm_captions=(69.68, 57.56),
            ),
        },
        notes=(
            "the paper's baseline: OpenAI's CLIP trained on with LAION-2B's aerial images; its "
            "average is printed as 57.87, its seven numbers give 58.01"
        ),
        **_L14,
    ),
)
