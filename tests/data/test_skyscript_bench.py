import numpy as np
import pytest
from PIL import Image

from rsvlm.data.datasets import SkyScriptBench
from rsvlm.data.datasets.skyscript_bench import BENCHES
from rsvlm.data.inspection.describe import describe
from rsvlm.errors import UserError

CLASSES = ["airport", "baseball field", "beach"]


def write(root, bench, rows, *, header="filepath,label", classes=CLASSES, version="", prefix=""):
    folder = root / BENCHES[bench].folder
    for row in rows:
        path = folder / row.split(",")[0].removeprefix(prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(path)
    (folder / BENCHES[bench].table).write_text("\n".join([header, *rows]) + "\n")
    (folder / f"classnames{version}.txt").write_text("\n".join(classes) + "\n")
    return root


def test_every_published_benchmark_opens(tmp_path):
    assert len(BENCHES) >= 11
    for word, bench in BENCHES.items():
        header = "filepath,label_v1,label_v2" if bench.versions else "filepath,label"
        rows = ["images/a.jpg,beach,airport"] if bench.versions else ["images/a.jpg,beach"]
        for version in ("_v1", "_v2") if bench.versions else ("",):
            write(tmp_path, word, rows, header=header, version=version)
        data = SkyScriptBench(tmp_path, name=word)
        assert data[0].label == 2 and data.classes == CLASSES
        assert data.name == (f"{word}_v1" if bench.versions else word) == data[0].meta["dataset"]
        if bench.versions:
            second = SkyScriptBench(tmp_path, name=word, version="v2")
            assert second[0].label == 0 and second.name == f"{word}_v2"
    assert SkyScriptBench(tmp_path, name="SkyScript_cls").name == "skyscript_cls"
    assert SkyScriptBench(tmp_path, name="rsicb256").name == "rsicb"
    assert len(SkyScriptBench(tmp_path / "aid", name="aid")) == 1  # the benchmark's own folder


@pytest.mark.parametrize("prefix", ["", "aid/"])
def test_paths_start_at_the_root_or_at_the_benchmark(tmp_path, prefix):
    root = write(tmp_path, "aid", [f"{prefix}images/a.jpg,beach"], prefix=prefix)
    data = SkyScriptBench(root, name="aid")
    assert data.entries[0].path == str(root / "aid/images/a.jpg") and data[0].images[0].size == (
        5,
        4,
    )


@pytest.mark.parametrize("labels", [["0", "2", "1"], ["0.0", "2.0", "1.0"]])
def test_numbers_are_positions(tmp_path, labels):
    rows = [f"{i}.jpg,{label}" for i, label in enumerate(labels)]
    data = SkyScriptBench(write(tmp_path, "aid", rows), name="aid")
    assert [e.label for e in data.entries] == [0, 2, 1]


@pytest.mark.parametrize("nothing", ["", "nan", "NaN", "NULL", "None"])
def test_lines_without_a_label_are_dropped_and_counted(tmp_path, nothing):
    rows = ["a.jpg,beach", f"b.jpg,{nothing}", "c.jpg,airport"]
    data = SkyScriptBench(write(tmp_path, "aid", rows), name="aid")
    assert [e.id for e in data.entries] == ["a.jpg", "c.jpg"] and data.unlabelled == 1
    assert data.problems == ["1 line(s) without a label were left out."]
    facts = describe(data)
    assert facts["classes"] == {"airport": 1, "baseball field": 0, "beach": 1}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rows": ["a.jpg,beech"]}, r"line 2: label 'beech' is not in classnames\.txt.*beach"),
        ({"rows": ["a.jpg,1", "b.jpg,3"]}, r"line 3: label 3 is no position among the 3 classes"),
        ({"rows": ["a.jpg,-1"]}, "label -1 is no position"),
        ({"rows": ["a.jpg,nan"]}, "no line has a label"),
        ({"rows": ["a.jpg,x,y"]}, "line 2: 3 columns, the header has 2"),
        (
            {"rows": ["a.jpg,beach"], "header": "path,class"},
            r"header is 'path,class'.*label_column=",
        ),
        ({"rows": ["a.jpg,0"], "classes": ["a", "", "b"]}, "line 2 is empty"),
        ({"rows": ["a.jpg,0"], "classes": ["a", "b", "a"]}, "names a more than once"),
    ],
)
def test_bad_tables_say_where(tmp_path, options, words):
    root = write(tmp_path, "aid", **options)
    with pytest.raises(UserError, match=words):
        SkyScriptBench(root, name="aid")


def test_absent_files_and_unknown_words(tmp_path):
    with pytest.raises(UserError, match="Did you mean eurosat"):
        SkyScriptBench(tmp_path, name="eurosatt")
    with pytest.raises(UserError, match=r"aid_img_txt_pairs_test\.csv"):
        SkyScriptBench(tmp_path, name="aid")
    root = write(tmp_path, "aid", ["a.jpg,beach", "b.jpg,beach"])
    (root / "aid" / "b.jpg").unlink()
    with pytest.raises(UserError, match="1 of 2 images"):
        SkyScriptBench(root, name="aid")
    assert len(SkyScriptBench(root, name="aid", missing="skip")) == 1
    (root / "aid" / "classnames.txt").unlink()
    with pytest.raises(UserError, match=r"classnames\.txt"):
        SkyScriptBench(root, name="aid")


def test_a_table_of_ones_own(tmp_path):
    Image.new("RGB", (3, 3)).save(tmp_path / "a.png")
    (tmp_path / "mine.csv").write_text("filename,kind\na.png,beach\n")
    (tmp_path / "names.txt").write_text("beach\n")
    options = {"table": "mine.csv", "classnames": "names.txt", "label_column": "kind"}
    data = SkyScriptBench(tmp_path, name="mine", **options)
    assert data.name == "mine" and data[0].label == 0


def test_the_binary_mode_reads_a_column_of_zeros_and_ones(tmp_path):
    rows = ["a.jpg,pond,1", "b.jpg,pond,0", "c.jpg,,1"]
    options = {"header": "filepath,label,actual", "classes": ["pond"]}
    root = write(tmp_path, "aid", rows, **options)
    data = SkyScriptBench(root, name="aid", actual_column="actual")
    assert [e.label for e in data.entries] == [0, None] and data.unlabelled == 1
    with pytest.raises(UserError, match="label and actuall"):
        SkyScriptBench(root, name="aid", actual_column="actuall")
    root = write(tmp_path, "aid", ["a.jpg,pond,2"], **options)
    with pytest.raises(UserError, match="line 2: '2' is neither 0 nor 1"):
        SkyScriptBench(root, name="aid", actual_column="actual")
    root = write(tmp_path, "aid", ["a.jpg,pond,1"], header="filepath,label,actual")
    with pytest.raises(UserError, match=r"classnames\.txt names 3"):
        SkyScriptBench(root, name="aid", actual_column="actual")
