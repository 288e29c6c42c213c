"""Files in ChangeChat's two schemas, as `data=changechat` reads them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from rsvlm.curate.record import Record
from rsvlm.files import written_whole

#: Kind → file of the test split; `caption` has a schema of its own.
_TEST = {
    "caption": "test",
    "binary": "test_binary",
    "count": "test_count",
    "location": "test_loc",
    "open": "test_open",
    "dialogue": "test_dialog",
}
#: What the reader calls the files.
_WORDS = ("train", "val", *_TEST.values())

_KEPT = (
    "{} pairs whose mask, flag and captions disagree were kept; they are listed in "
    "contradictions.json."
)


class _Lists:
    """JSON lists that grow a record at a time, each with a line a record."""

    def __init__(self, out: Path, stack: ExitStack) -> None:
        self.out, self.stack = out, stack
        self.files: dict[str, TextIO] = {}
        self.counts: Counter[str] = Counter()

    def add(self, word: str, record: Mapping[str, Any]) -> None:
        """Adds a record to a list, which begins with its first one."""
        if word not in self.files:
            part = self.stack.enter_context(written_whole(self.out / f"{word}.json"))
            self.files[word] = self.stack.enter_context(part.open("w", encoding="utf-8"))
        lead = ",\n" if self.counts[word] else "[\n"
        self.files[word].write(lead + json.dumps(record, ensure_ascii=False))
        self.counts[word] += 1

    def close(self) -> None:
        """Ends every list."""
        for file in self.files.values():
            file.write("\n]\n")
            file.flush()


@dataclass
class ChangeChatJson:
    """Writes train.json, val.json and the six test files, those that have a record.

    All but test.json hold conversations (`id`, `image`, `changeflag`, `conversations`); test.json
    holds a pair with all its captions (`image_A`, `image_B`, `captions`, `changeflag`). The
    published set has no validation file; this one has where there are pairs of it.
    contradictions.json lists the pairs that were kept although mask, flag and captions disagree.

    Pictures are not copied: `image_root` of the facts is what to give as `data.dataset.images`.
    """

    name = "changechat_json"
    version = "1"

    def write(self, records: Iterator[Record], out: Path) -> dict[str, Any]:
        """Writes the files into a folder; see the class."""
        kinds: Counter[str] = Counter()
        pairs: Counter[str] = Counter()
        roots: set[str] = set()
        last = ""
        listed = ""
        waiting: Record | None = None
        contradictory = 0
        with ExitStack() as stack:
            lists = _Lists(out, stack)
            for record in records:
                split, kind = record["split"], record["kind"]
                kinds[f"{split}/{kind}"] += 1
                roots.add(record["image_root"])
                if record["pair"] != last:
                    last = record["pair"]
                    pairs[record["image_root"]] += 1
                if record["contradictions"] and record["pair"] != listed:
                    listed = record["pair"]
                    contradictory += 1
                    lists.add("contradictions", _listed(record))
                if waiting is not None and waiting["pair"] != record["pair"]:
                    lists.add("test", _captioned(waiting))
                    waiting = None
                if split == "test" and kind == "caption":
                    said = [answer for _, answer in record["conversations"]]
                    waiting = waiting or record | {"texts": []}
                    waiting["texts"] += said
                    continue
                word = _TEST[kind] if split == "test" else split
                lists.add(word, _conversation(lists.counts[word], record))
            if waiting is not None:
                lists.add("test", _captioned(waiting))
            lists.close()
        if not contradictory:
            (out / "contradictions.json").unlink(missing_ok=True)
        # The training file first: it is what out=<name>.json gets.
        order = [word for word in (*_WORDS, "contradictions") if word in lists.counts]
        files = {f"{word}.json": lists.counts[word] for word in order}
        root = min(roots, default="<pictures>")
        return {
            "files": files,
            "kinds": dict(sorted(kinds.items())),
            "contradictory_pairs": contradictory,
            "notes": [_KEPT.format(contradictory)] if contradictory else [],
            "read_with": f"data=changechat data.root={out} data.dataset.images={root}",
            "reader": {
                "data": "changechat",
                "splits": [word for word in _WORDS if word in lists.counts],
                "options": {"images": root},
            },
            "sources": dict(sorted(pairs.items())),
            "licences": {
                "pictures and captions": "those of the source's",
                "instructions": "yours; ChangeChat's prompts are CC-BY-4.0",
            },
        }


def _listed(record: Record) -> Record:
    keys = ("pair", "contradictions", "changeflag", "facts", "captions", "mask")
    return {key: record[key] for key in keys}


def _captioned(record: Record) -> Record:
    """A record of the caption schema."""
    before, after = record["images"]
    return {
        "image_A": before,
        "image_B": after,
        "captions": record["texts"],
        "changeflag": record["flag"],
    }


def _conversation(number: int, record: Record) -> Record:
    """A record of the instruction schema."""
    turns = []
    for position, (question, answer) in enumerate(record["conversations"]):
        lead = "<image> <image> " if position == 0 else ""
        turns += [
            {"from": "human", "value": lead + question},
            {"from": "gpt", "value": answer},
        ]
    return {
        "id": number,
        "image": record["images"],
        "changeflag": record["flag"],
        "conversations": turns,
    }
