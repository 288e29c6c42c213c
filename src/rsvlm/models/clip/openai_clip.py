"""CLIP as OpenAI and LAION released it: the starting points of the remote-sensing models.

Radford et al., 2021, "Learning Transferable Visual Models From Natural Language Supervision"
(arXiv 2103.00020): QuickGELU. Cherti et al., 2023, "Reproducible scaling laws for contrastive
language-image learning" (arXiv 2212.07143): LAION's B/32 and H/14, GELU.

OpenAI's own files are TorchScript archives, which are not run; the rows point to the same weights
as plain tensors, in the repositories that open_clip 3.3 takes them from. `clip_small` and
`clip_tiny` are sizes of our own, without released weights. CLIP-Cap-4 is L/14 tuned on four caption
sets by the authors of RS-CapRet (arXiv 2402.06475), whose vision encoder it is.
"""

from __future__ import annotations

from typing import Any

from rsvlm.checkpoints.zoo import Row, recalls


def _openai(model: str, arch: str, repo: str, **facts: Any) -> Row:
    return Row(
        model=model,
        tag="openai",
        uri=f"hf://timm/{repo}.openai@main",
        arch=arch,
        activation="quick_gelu",
        licence="MIT (OpenAI's repository); Apache-2.0 (tag of the copy on the hub)",
        paper="2103.00020",
        homepage="https://github.com/openai/CLIP",
        **facts,
    )


def _laion(model: str, arch: str, tag: str, repo: str) -> Row:
    return Row(
        model=model,
        tag=tag,
        uri=f"hf://{repo}@main",
        arch=arch,
        activation="gelu",
        licence="MIT",
        paper="2212.07143",
        homepage="https://github.com/mlfoundations/open_clip",
    )


ROWS = (
    _openai("clip_rn50", "RN50", "resnet50_clip"),
    _openai(
        "clip_vitb32",
        "ViT-B-32",
        "vit_base_patch32_clip_224",
        # As measured in GeoRSCLIP's paper.
        metrics={
            "aid/georsclip/top1": 66.22,
            "resisc45/georsclip/top1": 60.90,
            "eurosat/georsclip/top1": 47.21,
            **recalls("rsicd", 5.31, 14.18, 23.70, 5.78, 17.73, 27.76, mean=15.74),
            **recalls("rsitmd", 9.51, 23.01, 32.74, 8.81, 27.88, 43.19, mean=24.19),
        },
    ),
    _openai("clip_vitb16", "ViT-B-16", "vit_base_patch16_clip_224"),
    _openai("clip_vitl14", "ViT-L-14", "vit_large_patch14_clip_224"),
    _openai("clip_vitl14_336", "ViT-L-14-336", "vit_large_patch14_clip_336", image_size=336),
    _laion("clip_vitb32", "ViT-B-32", "laion2b_e16", "timm/vit_base_patch32_clip_224.laion2b_e16"),
    _laion("clip_vitb32", "ViT-B-32", "laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
    _laion("clip_vith14", "ViT-H-14", "laion2b_s32b_b79k", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"),
    Row(
        model="clip_vitl14",
        tag="cap4",
        uri="hf://joaodaniel/rs-clip-cap4@main",
        arch="ViT-L-14",
        activation="quick_gelu",
        licence="not stated",
        paper="2402.06475",
        homepage="https://huggingface.co/joaodaniel/rs-clip-cap4",
        notes=(
            "OpenAI's L/14 tuned on Cap-4 (NWPU-Captions, RSICD, Sydney, UCM), the vision encoder "
            "of RS-CapRet; transformers' layout; known from its model card"
        ),
    ),
)
