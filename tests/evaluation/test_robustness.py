"""The robustness suite from its recipe to its table."""

import json

from rsvlm.app import run
from rsvlm.data.loading.corruptions import CORRUPTIONS, SEVERITIES

SMALL = [
    "trainer=cpu",
    "logger=none",
    "data.dataset.dataset.n=4",
    "data.dataset.dataset.size=32",
    "model.image_size=32",
    "model.rgb.widths=[8,16]",
    "model.semantic.widths=[8,16]",
    "model.dim=16",
    "model.words.more_than=0",
    "evaluation.metrics=[bleu4,cider]",
    "evaluation.options.beam_size=1",
]


def test_every_suite_names_every_corruption_once(compose):
    wanted = ["test", *(f"test@{word}_{s}" for word in CORRUPTIONS for s in SEVERITIES)]
    for recipe in ("eval_robustness_scenes", "eval_robustness_levircc", "eval_robustness_secondcc"):
        cfg = compose("eval", [f"experiment={recipe}"])
        assert list(cfg.data.splits.test) == wanted


def test_a_suite_leaves_a_table_with_unchanged_pairs_apart(compose, scratch, capsys):
    words = [*SMALL, "data.splits.test=[test,test@blur_1,test@registration_3]"]
    values = run.evaluate(compose("eval", ["experiment=eval_robustness_scenes", *words]), scratch)
    names = {"scenes", "scenes_blur_1", "scenes_registration_3"}
    for name in names:
        assert f"test/{name}/coco/change_cider" in values
        assert f"test/{name}/coco/no_change_cider" in values
        assert (scratch / "pictures" / name / "answers.png").is_file()
    table = (scratch / "robustness.md").read_text()
    assert table in capsys.readouterr().out
    assert "| blur | 1 |" in table and "| registration | 3 |" in table
    assert "no_change_cider" in table
    rows = json.loads((scratch / "metrics.json").read_text())["results"]
    assert {row["dataset"] for row in rows} == names
