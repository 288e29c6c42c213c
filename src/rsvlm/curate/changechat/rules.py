"""The kinds of instruction that need no model: from masks and captions, by rule.

Prompts are ChangeChat's own, and answers take its forms, which its metrics read. What a mask cannot
say is not said: whether a thing came or went. ChangeChat calls every changed thing "new", and so
do these answers of roads and buildings; those of a `region` do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rsvlm.curate.changechat.masks import changed
from rsvlm.curate.record import Dropped, Outcome, Record
from rsvlm.data.datasets.change_rules import UNCHANGED, of_regions
from rsvlm.data.datasets.changechat import PROMPTS, REGIONS
from rsvlm.errors import UserError, near

#: The later questions of a dialogue, as published.
FOLLOW_COUNT = "If changes have occurred, count the number of road and building changes separately."
FOLLOW_CAPTION = (
    "Based on the above analysis, please describe the changes of these two images in detail."
)
#: The same where the mask does not say what has changed.
FOLLOW_REGIONS = "If changes have occurred, count the changed regions."
NO_CHANGE = "No change has occurred."
KINDS = ("caption", "binary", "count", "location", "dialogue")


@dataclass
class RuleTypes:
    """Makes a record of each conversation of a pair; `id` is the pair's with its kind.

    `conversations` of a record hold [question, answer] pairs, `kind` what it is, `flag` whether
    anything has changed: as the file says where captions speak, as the mask shows everywhere else.
    The dialogue goes as published from yes or no over the counts to a description (the first
    caption); without captions it ends with the counts. Test captions stay one record a pair.

    Dropped: `no_kind`, a pair of which no kind can be made (captions alone are asked for, and it
    has none).

    Args:
        kinds: of `caption`, `binary`, `count`, `location`, `dialogue`.
        open: also give a record of kind `open` to the stage that asks a language model. A recipe
            has the model's address here, so that there is one where there is a model.

    Raises:
        UserError: a kind that is none of these.
    """

    kinds: Sequence[str] = KINDS
    open: Any = False
    name = "change_instruction_generator"
    version = "1"

    def __post_init__(self) -> None:
        self.kinds = list(self.kinds)
        for kind in self.kinds:
            if kind not in KINDS:
                hint = (
                    "Kind open is made where a model's address is given: "
                    "pipeline.stages.questions.model.url=<address>."
                    if kind == "open"
                    else near(kind, KINDS)
                )
                raise UserError(f"kinds={self.kinds}: no kind {kind!r}. {hint}")

    def __call__(self, record: Record) -> Outcome:
        """The conversations of a pair."""
        made = []
        for kind in self.kinds:
            for number, said in enumerate(_said(record, kind)):
                more = f"{kind}{number}" if kind == "caption" else kind
                flag = record["changeflag"] if kind == "caption" else None
                flag = int(changed(record)) if flag is None else flag
                # Lists in the shape that JSON keeps.
                pairs = [list(pair) for pair in said]
                own = {"id": f"{record['id']}#{more}", "kind": kind, "flag": flag}
                made.append(record | own | {"pair": record["id"], "conversations": pairs})
        if self.open:
            own = {"id": f"{record['id']}#open", "kind": "open", "flag": int(changed(record))}
            made.append(record | own | {"pair": record["id"], "conversations": []})
        return made or Dropped("no_kind", "it has no captions")


def _said(record: Record, kind: str) -> list[list[tuple[str, str]]]:
    """The conversations of one kind, each as questions and answers."""
    captions, facts = record["captions"], record["facts"]
    yes = "Yes" if changed(record) else "No"
    if kind == "caption":
        return [[(PROMPTS["caption"], text)] for text in captions]
    if kind == "binary":
        return [[(PROMPTS["binary"], yes)]]
    regions = "region" in facts
    if kind == "count":
        return [[((REGIONS if regions else PROMPTS)["count"], count_answer(facts))]]
    if kind == "location":
        return [[((REGIONS if regions else PROMPTS)["location"], location_answer(facts))]]
    said = [
        (PROMPTS["binary"], yes),
        (FOLLOW_REGIONS if regions else FOLLOW_COUNT, count_answer(facts)),
    ]
    if captions:
        said.append((FOLLOW_CAPTION, captions[0]))
    return [said]


def count_answer(facts: Record) -> str:
    """How many things have changed, in the form that ChangeChat's metrics read.

    Args:
        facts: class → {count, cells}.
    """
    if not any(fact["count"] for fact in facts.values()):
        return UNCHANGED["region" if "region" in facts else "building"]
    if "region" in facts:
        return of_regions(facts["region"]["count"], [])[0]
    parts = []
    for word in ("road", "building"):
        number = facts.get(word, {"count": 0})["count"]
        parts.append(f"{number or 'no'} new {word}{'' if number == 1 else 's'}")
    verb = "is" if parts[0].startswith("1 ") else "are"
    return f"There {verb} {' and '.join(parts)}."


def location_answer(facts: Record) -> str:
    """In which cells things have changed, in the form that ChangeChat's metrics read."""
    if not any(fact["count"] for fact in facts.values()):
        return NO_CHANGE
    if "region" in facts:
        return of_regions(facts["region"]["count"], facts["region"]["cells"])[1]
    roads, buildings = (facts.get(word, {"cells": []})["cells"] for word in ("road", "building"))
    return f"Roads: {roads} Buildings: {buildings}"
