"""SkyEye-968k: the instructions of SkyEyeGPT, nineteen files over the images of many data sets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

from rsvlm.data.datasets.conversations import Conversations, Identifiers, check_identifiers
from rsvlm.data.datasets.dialogues import DialogueDataset
from rsvlm.data.datasets.missing import Missing, check_missing
from rsvlm.errors import UserError, near


class Part(NamedTuple):
    """A file of the release, the source of its images, and the task of its turns."""

    file: str
    source: str
    kind: str | None


#: Part → its file. A part's word is the start of its samples' ids.
PARTS: dict[str, Part] = {
    "caption_era": Part("caption/caption_ERA_train.json", "ERA", "caption"),
    "caption_rsicd": Part("caption/caption_RSICD_train.json", "RSICD", "caption"),
    "caption_sydney": Part("caption/caption_Sydney_train.json", "Sydney", "caption"),
    "caption_nwpu": Part("caption/caption_NWPU_train.json", "NWPU", "caption"),
    "caption_rsitmd": Part("caption/caption_RSITMD_train.json", "RSITMD", "caption"),
    "caption_ucm": Part("caption/caption_UCM_train.json", "UCM", "caption"),
    "conversation_dior": Part("multitask_conversation/DIOR_Conversa.json", "DIOR", None),
    "conversation_dota": Part("multitask_conversation/DOTA_Conversa.json", "DOTA", None),
    "conversation_sydney": Part("multitask_conversation/Sydney_Conversa.json", "Sydney", None),
    "conversation_ucm": Part("multitask_conversation/UCM_Conversa.json", "UCM", None),
    "rspg": Part("phrasegrounding/diorpg_train.json", "DIOR", "grounding"),
    "rsvg": Part("vg/rsvg.json", "RSVG", "refer"),
    "dior_rsvg": Part("vg/DIORvg_train.json", "DIOR", "refer"),
    "vqa_dota": Part("vqa/DOTAvqa_train.json", "DOTA", "vqa"),
    "vqa_era": Part("vqa/EARVqa.json", "ERA", "vqa"),
    "vqa_rsvqa_hr": Part("vqa/RSVQAHR_train.json", "RSVQA_HR", "vqa"),
    "vqa_rsvqa_lr": Part("vqa/RSVQALR_train.json", "RSVQA_LR", "vqa"),
    "vqa_sydney": Part("vqa/SydneyVqa.json", "Sydney", "vqa"),
    "vqa_ucm": Part("vqa/UCMvqa.json", "UCM", "vqa"),
}
SOURCES = tuple(dict.fromkeys(part.source for part in PARTS.values()))


class SkyEye968k(Conversations):
    """SkyEye-968k: the archive's JSON files; the images are those of the sources.

    Task identifiers as [caption] and boxes `{<x0><y0><x1><y1>}` (0 to 100) stay in the text. Where
    a text has no identifier the part's task is the turns' kind, and a mark-less turn of a
    multi-task conversation has none. RSVQA-HR is two thirds of all samples: mix parts by weight.

    The published counts are rounded: captions 210 thousand, questions 702, grounding 39,
    conversations 18.

    Args:
        root: the folder that the archive unpacks to.
        split: `train` (all parts), or a part's word (`PARTS`), or several joined with `+`.
        images: source → folder of its images, relative to `root` or absolute; by default
            images/<source>/.
        identifiers: `keep` or `strip` (see `Conversations`).
        missing: what becomes of images that are not there (`datasets/missing.py`).
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: see `Conversations`.
    """

    name = "skyeye968k"
    title: ClassVar[str] = "SkyEye-968k"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    caption/caption_RSICD_train.json ...       six files\n"
        "    multitask_conversation/DIOR_Conversa.json ...  four\n"
        "    phrasegrounding/diorpg_train.json          vg/rsvg.json, DIORvg_train.json\n"
        "    vqa/RSVQALR_train.json ...                 six\n"
        "    images/RSICD/ ...   a folder a source; others with images="
    )
    licence = "CC BY 4.0 (annotations); images under the terms of the sources"
    paper = (
        "Y. Zhan, Z. Xiong, Y. Yuan. SkyEyeGPT: Unifying remote sensing vision-language tasks via "
        "instruction tuning with large language model. ISPRS JPRS 221, 2025. arXiv:2401.09712"
    )
    homepage = "https://huggingface.co/datasets/ZhanYang-nwpu/SkyEye-968k"

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        images: Mapping[str, str] | None = None,
        identifiers: Identifiers = "keep",
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        DialogueDataset.__init__(self, root, split, convert=convert)
        check_missing(missing)
        check_identifiers(identifiers)
        self.identifiers = identifiers
        words = list(PARTS) if split in ("train", "all") else split.split("+")
        for word in words:
            if word not in PARTS:
                known = ["train", *PARTS]
                raise UserError(f"{self.title} has no split {word!r}. {near(word, known)}")
        for source in images or {}:
            if source not in SOURCES:
                raise UserError(f"images= names the source {source!r}. {near(source, SOURCES)}")
        lacking = [word for word in words if not (self.root / PARTS[word].file).is_file()]
        if len(lacking) == len(words):
            raise self.not_found(f"there is no {PARTS[words[0]].file}.")
        for word in words:
            file, source, kind = PARTS[word]
            if word in lacking:
                self.problems.append(f"{file} is not there, nor are its conversations.")
            else:
                self.add_file(self.root / file, prefix=f"{word}/", place=source, kind=kind)
        places = {s: [self.root / (images or {}).get(s, f"images/{s}")] for s in SOURCES}
        self.close(places, missing)
