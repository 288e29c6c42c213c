"""RS-RAG's base as published: its chunks from its three JSON files, word for word and in its order.

Source: CongcongWen1208/RS-RAG 8a93ba2, QDRANT_DATASET/build_qdrant_dataset_RSWK.py. What looks like
a defect is kept here, since the published order of results rests on it: empty fields keep their
headings, a caption is made only where there is a description, months are no part of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from rsvlm.retrieval.knowledge_records import Chunk, KnowledgeRecord

_BASIC = (
    "Name",
    "Category",
    "Area",
    "Location",
    "Address",
    "Physical_Area",
    "Construction_Period",
)
#: What a malformed record raises in the published code, which leaves it out.
_MALFORMED = (AttributeError, TypeError, KeyError)

#: Variant -> task -> types of chunks that it looks through.
RELEASED_TASKS: dict[str, dict[str, tuple[str, ...]]] = {
    "runtime": {
        "caption": ("caption",),
        "vqa": (
            "basic_info_and_history",
            "architecture_and_function",
            "monthly_expert_knowledge",
            "culture_and_visitor",
            "expert_knowledge",
        ),
        "classification": ("basic_info_and_history", "image_description"),
    },
}
RELEASED_TASKS["builder"] = {
    **RELEASED_TASKS["runtime"],
    "classification": ("basic_info_and_history",),
}
#: Variant -> how many rows are recalled before they are scored, by default.
SEARCH_K = {"runtime": 100_000, "builder": 1000}


def released_records(
    world: Sequence[Mapping[str, Any]],
    monthly: Sequence[Mapping[str, Any]],
    descriptions: Sequence[Mapping[str, Any]],
    *,
    missing: Collection[str] = (),
    folder: str = "images",
) -> tuple[list[KnowledgeRecord], list[str]]:
    """The published base's points, as records with ready-made chunks.

    Args:
        world: of `world-expert_knowledge.json`.
        monthly: of `monthly_knowledge.json`.
        descriptions: of `image_descriptions.json`.
        missing: paths of images that cannot be read, none of whose chunks is made.
        folder: of the images.

    Returns:
        A record for each image, whose chunks know their place in the published order; and what
        could not be used.
    """
    made = _Points(missing, folder)
    faults: list[str] = []
    for name, rows, add in (
        ("world", world, made.world),
        ("monthly", monthly, made.monthly),
        ("description", descriptions, made.description),
    ):
        for number, row in enumerate(rows, 1):
            try:
                image = made.path(row)
                if image in made.missing:
                    faults.append(f"{name} record {number}: {image} cannot be read")
                    continue
                add(row, image)
            except _MALFORMED as error:
                faults.append(f"{name} record {number} is malformed: {error!r}")
    return list(made.records.values()), faults


class _Points:
    """Chunks in the order in which they are made."""

    def __init__(self, missing: Collection[str], folder: str) -> None:
        self.missing, self.folder = frozenset(missing), folder
        self.records: dict[str, KnowledgeRecord] = {}
        self.captions: dict[str, list[str]] = {}
        self.count = 0

    def path(self, row: Mapping[str, Any]) -> str:
        name: str = row["image_name"]
        return f"{self.folder}/{name if name.endswith('.png') else f'{name}.png'}"

    def add(self, image: str, kind: str, text: str) -> None:
        if image not in self.records:
            self.records[image] = KnowledgeRecord(image.rpartition("/")[2], image=image)
        chunk = Chunk(kind, text, (0, len(text)), self.count)
        self.records[image].chunks.append(chunk)
        self.count += 1

    def world(self, row: Mapping[str, Any], image: str) -> None:
        made = list(_world_chunks(row))  # all of them, or none where one cannot be made
        for kind, text in made:
            self.add(image, kind, text)
        self.captions[image] = [text for _, text in made]
        held = row.get("world knowledge", {})
        if image in self.records:
            record = self.records[image]
            record.name, record.category = str(held.get("Name", "")), str(held.get("Category", ""))
            record.location = str(held.get("Location", ""))

    def monthly(self, row: Mapping[str, Any], image: str) -> None:
        months: dict[str, dict[str, Any]] = {}
        for key, value in row.get("monthly expert knowledge", {}).items():
            words = key.strip().split()
            if len(words) >= 3:
                month = " ".join(words[-2:])
                months.setdefault(month, {})[f"{' '.join(words[:-2])} {month}"] = value
        for month, fields in months.items():
            text = "; ".join(f"{key}: {value}" for key, value in fields.items())
            kind = "monthly_expert_knowledge"
            self.add(image, kind, f"monthly expert knowledge - of {month}:\n{text}")

    def description(self, row: Mapping[str, Any], image: str) -> None:
        text = row.get("description", "").strip()
        parts = self.captions.get(image, [])
        if text:
            self.add(image, "image_description", f"Image Description: {text}")
            parts.append(f"Image Description: {text}")
        if parts:
            self.add(image, "caption", "\n\n".join(parts))


def _world_chunks(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    held = row.get("world knowledge", {})
    basic = "; ".join(f"{field}: {held[field]}" for field in _BASIC if field in held)
    past = f"Historical_Background: {held.get('Historical_Background', '').strip()}"
    events = [
        f"- {e.get('Event', '')} ({e.get('Year', '')}): {e.get('Description', '')}"
        for e in held.get("Major_Events", [])
        if "Description" in e
    ]
    block = "\n".join(["Major Events:", *events]) if events else ""
    yield "basic_info_and_history", f"{basic}\n{past}\n{block}".strip()
    built, use, more = (
        held.get(key, "")
        for key in ("Architectural_Characteristics", "Primary_Function", "Details")
    )
    text = f"Architectural_Characteristics: {built}\nPrimary_Function: {use}\nDetails: {more}"
    yield "architecture_and_function", text.strip()
    visitors = held.get("Notable_Visitors", [])
    visitors = ", ".join(visitors) if isinstance(visitors, list) else visitors
    culture = held.get("Cultural_Significance", "")
    text = f"Cultural_Significance: {culture}\nNotable_Visitors: {visitors}"
    yield "culture_and_visitor", text.strip()
    expert = row.get("remote sensing expert knowledge", {})
    if expert:
        told = "; ".join(f"{key}: {value}" for key, value in expert.items())
        yield "expert_knowledge", f"expert knowledge: {told}"
