"""RS-GPT4V: instructions from ten data sets and GPT-4V, as LLaVA conversations."""

from __future__ import annotations

from typing import ClassVar

from rsvlm.data.datasets.conversations import Conversations


class RSGPT4V(Conversations):
    """RS-GPT4V: captions, questions, grounding, regions, multi-turn dialogues, descriptions.

    The names inside its archive are not published: every JSON whose name holds the split's word is
    read, or those that `annotations` names. Published are 91,937 images with 991,206 questions for
    training and 15,999 with 258,419 for testing; a conversation holds one or more of them, so that
    no count of conversations can be held against them.

    Args: see `Conversations`.
    """

    name = "rsgpt4v"
    title: ClassVar[str] = "RS-GPT4V"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    train.json   test.json   or any names that hold the split's word; annotations= else\n"
        "    images/      as the JSON names them; another folder with images="
    )
    licence = "no licence text; images under the terms of the ten sources, for research"
    paper = (
        "L. Xu, L. Zhao, W. Guo, Q. Li, K. Long, K. Zou, Y. Wang, H. Li. RS-GPT4V: A unified "
        "multimodal instruction-following dataset for remote sensing image understanding. "
        "arXiv:2406.12479"
    )
    homepage = "https://github.com/GeoX-Lab/RS-GPT4V"
