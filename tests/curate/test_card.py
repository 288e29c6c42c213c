"""The data card: its numbers are those of the set, its page needs no other file."""

import json
import re

import pytest

from rsvlm.cli.card import main
from rsvlm.curate import card
from rsvlm.curate.changechat.masks import FindContradictions, ReadMask
from rsvlm.curate.changechat.rules import RuleTypes
from rsvlm.curate.changechat.source import MaskPairs
from rsvlm.curate.changechat.writer import ChangeChatJson
from rsvlm.curate.engine import Pipeline, run
from rsvlm.errors import UserError
from rsvlm.synthetic.export import FORMATS, export


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("card")
    export(FORMATS["levir_mci"], root / "mci", {"train": 4, "test": 2}, size=32)
    mask = root / "mci" / "images" / "train" / "label" / "train_000001.png"
    mask.write_bytes(b"")
    stages = {"masks": ReadMask(), "contradictions": FindContradictions(), "types": RuleTypes()}
    source = MaskPairs(str(root / "mci"))
    run(Pipeline("changechat", source, stages, ChangeChatJson()), root / "out")
    return root / "out"


def test_the_card_says_what_was_built_and_dropped(built):
    assert card.write(built, samples=4) == built / "card.html"
    facts = json.loads((built / "card.json").read_text())
    assert facts["splits"]["train"]["samples"] == 3 * 9
    assert facts["splits"]["train"]["kinds"]["caption"] == 15
    assert facts["splits"]["test"]["texts"] == 10 and facts["places"] == {"known": 0}
    assert facts["stages"][0]["dropped"] == {"broken_mask": 1}
    page = (built / "card.html").read_text()
    assert "1 broken mask" in page and "broken_mask" not in page
    assert page.count("<img") == 1 and not re.findall(r'(?:src|href)="(?!data:)', page)


def test_the_machine_readable_card_names_every_file(built):
    card.write(built, samples=0)
    found = json.loads((built / "croissant.json").read_text())
    names = {one["name"] for one in found["distribution"]}
    assert names >= {"train.json", "test.json", "test_count.json"}
    assert "card.json" not in names and all(len(o["sha256"]) == 64 for o in found["distribution"])
    assert {one["name"] for one in found["recordSet"]} >= {"train", "test_count"}


def test_a_card_is_made_of_what_is_whole(built, tmp_path, capsys):
    main([str(built), "--samples", "0"])
    assert "card.html" in capsys.readouterr().out
    with pytest.raises(UserError, match="rsvlm curate has finished"):
        card.write(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(UserError, match="no manifest"):
        card.write(tmp_path)
    held = json.loads((built / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(held | {"dry_run": True}))
    with pytest.raises(UserError, match="dry run"):
        card.write(tmp_path)
    written = {"files": {}}
    (tmp_path / "manifest.json").write_text(json.dumps(held | {"written": written}))
    assert card.write(tmp_path).is_file()
