"""GeoRSCLIP: CLIP tuned on RS5M, five million remote-sensing images with captions.

Zhang, Zhao, Guo, Yin, 2024, "RS5M and GeoRSCLIP: A Large-Scale Vision-Language Dataset and a Large
Vision-Language Model for Remote Sensing", TGRS (arXiv 2306.11300), and the code at om-ai-lab/RS5M.

Stage 1 (paper, section VI-A): from OpenAI's CLIP (H/14 from LAION's `laion2b_s32b_b79k`), symmetric
InfoNCE, AdamW, learning rate 1e-6, weight decay 0.5, cosine, batch 700, 20 epochs, on 95 % of RS5M;
for RS3 one of two captions at random, the top-ranked or the rotation-invariant one. Images:
random crop of 0.9 to 1.0 of the area, horizontal flip, any rotation. Warm-up: not given.
Stage 2 (the author in RS5M issue 12): RSICD, RSITMD or both (RET-2, without RemoteCLIP's
duplicates), learning rate 5e-6, weight decay 0.5, batch 600, 7 epochs, 100 steps of warm-up,
gradient norm 50.

The files are bare open_clip state dicts. All but H/14 started from OpenAI's weights, so their
activation is QuickGELU; the loading snippet of their README runs GELU on a current open_clip.
"""

from __future__ import annotations

from typing import Any

from rsvlm.checkpoints.zoo import Row, recalls

_HUB = "hf://Zilun/GeoRSCLIP@main/ckpt"
_PUBLISHED: dict[str, Any] = {
    "licence": "cc (the tag on the hub; no version is stated)",
    "paper": "2306.11300",
    "homepage": "https://github.com/om-ai-lab/RS5M",
}


def _selo(rsu: float, ras: float, rda: float, rmi: float) -> dict[str, float]:
    values = {"rsu": rsu, "ras": ras, "rda": rda, "rmi": rmi}
    return {f"airslt/selo_jpeg/{word}": value for word, value in values.items()}


ROWS = (
    Row(
        model="georsclip_vitb32",
        tag="rs5m",
        uri=f"{_HUB}/RS5M_ViT-B-32.pt",
        files=("RS5M_ViT-B-32.pt",),
        arch="ViT-B-32",
        activation="quick_gelu",
        metrics={
            "aid/georsclip/top1": 74.42,
            "resisc45/georsclip/top1": 72.74,
            "eurosat/georsclip/top1": 61.40,
            **_selo(0.755636, 0.258044, 0.730925, 0.744670),
            **recalls("rsicd", 12.17, 28.45, 38.61, 9.31, 26.51, 41.28, mean=26.06),
            **recalls("rsitmd", 17.92, 34.96, 46.02, 14.12, 41.46, 57.52, mean=35.33),
        },
        notes="numbers of the released file (README); the paper's own run differs slightly",
        **_PUBLISHED,
    ),
    Row(
        model="georsclip_vitb32",
        tag="ret2",
        uri=f"{_HUB}/RS5M_ViT-B-32_RET-2.pt",
        files=("RS5M_ViT-B-32_RET-2.pt", "RS5M_ViT-B-32_retrieval.pt"),
        arch="ViT-B-32",
        activation="quick_gelu",
        metrics={
            **recalls("rsicd", 21.13, 41.72, 55.63, 15.59, 41.19, 57.99, mean=38.87),
            **recalls("rsitmd", 32.30, 53.32, 67.92, 25.04, 57.88, 74.38, mean=51.81),
        },
        notes="tuned on RSICD and RSITMD; was called RS5M_ViT-B-32_retrieval.pt before",
        **_PUBLISHED,
    ),
    Row(
        model="georsclip_vitb32",
        tag="rsicd",
        uri=f"{_HUB}/RS5M_ViT-B-32_RSICD.pt",
        files=("RS5M_ViT-B-32_RSICD.pt",),
        arch="ViT-B-32",
        activation="quick_gelu",
        metrics=recalls("rsicd", 22.14, 40.53, 51.78, 15.26, 40.46, 57.79, mean=38.00),
        notes="tuned on RSICD; added later than the others",
        **_PUBLISHED,
    ),
    Row(
        model="georsclip_vitl14",
        tag="rs5m",
        uri=f"{_HUB}/RS5M_ViT-L-14.pt",
        files=("RS5M_ViT-L-14.pt",),
        arch="ViT-L-14",
        activation="quick_gelu",
        **_PUBLISHED,
    ),
    Row(
        model="georsclip_vitl14_336",
        tag="rs5m",
        uri=f"{_HUB}/RS5M_ViT-L-14-336.pt",
        files=("RS5M_ViT-L-14-336.pt",),
        arch="ViT-L-14-336",
        activation="quick_gelu",
        image_size=336,
        **_PUBLISHED,
    ),
    Row(
        model="georsclip_vith14",
        tag="rs5m",
        uri=f"{_HUB}/RS5M_ViT-H-14.pt",
        files=("RS5M_ViT-H-14.pt",),
        arch="ViT-H-14",
        activation="gelu",
        metrics={
            "aid/georsclip/top1": 76.33,
            "resisc45/georsclip/top1": 73.83,
            "eurosat/georsclip/top1": 67.47,
            **_selo(0.7595, 0.2566, 0.7418, 0.7494),
            **recalls("rsicd", 14.27, 29.55, 40.44, 11.38, 30.80, 44.41, mean=28.48),
            **recalls("rsitmd", 23.45, 42.92, 53.32, 18.01, 44.60, 59.96, mean=40.38),
        },
        **_PUBLISHED,
    ),
)
