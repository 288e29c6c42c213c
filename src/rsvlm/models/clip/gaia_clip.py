"""GAIA-CLIP: CLIP tuned on GAIA, about 200,000 scraped images with five synthetic captions each.

Zavras, Michail, Zhu, Demir, Papoutsis, 2025, "GAIA: A Global, Multi-modal, Multi-scale Vision-
Language Dataset for Remote Sensing Image Analysis" (arXiv 2502.09598), and the data at
Orion-AI-Lab/GAIA. Abstract and README say 205,150 pairs, a newer version of the paper 201,005.

No weights are released ("coming soon" in the README), so there are no zoo rows, and the
hyper-parameters of the paper's body could not be read; our recipe marks its own. The authors' demo
uses open_clip's `ViT-B-32-quickgelu` with OpenAI's weights, and so does this option. Captions start
with "The image showcases:" and are long: many are cut at 77 tokens.
"""

from __future__ import annotations

from rsvlm.checkpoints.zoo import Row

ROWS: tuple[Row, ...] = ()
