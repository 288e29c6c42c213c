"""What every reader carries, over all of them."""

import yaml

from rsvlm.cli import inspect
from rsvlm.config.validate import locate
from rsvlm.data.datasets import DATASETS
from rsvlm.data.datasets.base import FileDataset

#: Formats, not data sets: whoever has files in them knows their terms.
FORMATS = {
    "change_pairs",
    "class_table",
    "coco",
    "conversations",
    "karpathy",
    "mask_folder",
    "pairs",
    "precomp",
    "scene_folder",
    "shards",
}


def test_every_reader_says_what_it_reads_and_under_which_terms():
    assert len(DATASETS) >= 51
    assert set(DATASETS) >= FORMATS
    for word, kind in DATASETS.items():
        assert issubclass(kind, FileDataset) and kind.__doc__, word
        assert kind.title and "{root}" in kind.layout, word
        kind.layout.format(root="x")
        if word not in FORMATS and word != "change_table":  # the user's own
            assert kind.licence not in ("", "unknown") and kind.paper, word
            assert kind.homepage.startswith("https://"), word
        assert all(isinstance(n, int) and n > 0 for n in kind.published_counts.values()), word


def test_every_reader_has_its_option(root):
    for word, kind in DATASETS.items():
        path = root / "conf" / "data" / f"{word}.yaml"
        node = yaml.safe_load(path.read_text(encoding="utf-8"))["dataset"]
        assert locate(node["_target_"]) is kind, word


def test_the_list_of_readers(capsys):
    inspect.main(["--list"])
    text = capsys.readouterr().out
    assert all(f"{word} " in text for word in DATASETS)
    assert "LEVIR-CC (train 6815, val 1333, test 1929)" in text
