"""Tables of pairs: what is detected, and what is refused with file and line."""

import json
import pickle
from functools import partial

import numpy as np
import pytest
from PIL import Image

from rsvlm.data.datasets import GeoRSCLIPEval, PairsTable, RemoteCLIPPairs
from rsvlm.data.datasets.base import metric_word
from rsvlm.data.datasets.cards import SkyScriptRetrieval
from rsvlm.data.datasets.change_table import ChangeTable
from rsvlm.data.datasets.skyscript import SkyScript, name_meta
from rsvlm.data.inspection.describe import describe
from rsvlm.errors import UserError
from rsvlm.lit.datamodule import DataModule


def picture(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 8, 3), value, np.uint8)).save(path)


def write(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


@pytest.fixture
def root(tmp_path):
    for i, name in enumerate(("a.jpg", "b.jpg", "sub/c.jpg")):
        picture(tmp_path / name, i)
    return tmp_path


LINES = [("a.jpg", "a pond"), ("b.jpg", 'trees, "tall" ones'), ("a.jpg", "water")]


def table(header, separator, quote=True):
    text = separator.join(header) + "\n"
    for name, title in LINES:
        cell = '"' + title.replace('"', '""') + '"' if quote else title
        text += separator.join((name, cell)) + "\n"
    return text


@pytest.mark.parametrize("separator", [",", "\t"])
@pytest.mark.parametrize("image", ["filepath", "filename", "img_name", "image"])
@pytest.mark.parametrize("title", ["title", "caption"])
def test_known_headers_are_found(root, separator, image, title):
    write(root / "train.csv", table((image, title), separator))
    data = PairsTable(root, "train")
    assert [(e.id, e.texts) for e in data.entries] == [
        ("a.jpg", ("a pond", "water")),
        ("b.jpg", ('trees, "tall" ones',)),
    ]
    assert data[0].images[0].size == (8, 6) and data[0].meta["dataset"] == data.name
    assert not data.problems


def test_columns_in_any_order_byte_order_mark_and_windows_lines(root):
    text = "title\textra\tfilename\r\na pond\t1\ta.jpg\r\n\r\nwater\t2\tb.jpg\r\n"
    write(root / "ret.tsv", text, "utf-8-sig")
    data = PairsTable(root, table="ret.tsv")
    assert data.name == metric_word(root.name) and [e.id for e in data.entries] == [
        "a.jpg",
        "b.jpg",
    ]
    assert [e.texts for e in data.entries] == [("a pond",), ("water",)]


def test_without_grouping_a_line_is_a_sample(root):
    write(root / "train.csv", table(("filepath", "title"), ","))
    data = PairsTable(root, "train", group=False)
    assert [(e.id, len(e.texts)) for e in data.entries] == [
        ("a.jpg", 1),
        ("b.jpg", 1),
        ("a.jpg", 1),
    ]


def test_columns_and_separator_of_ones_own(root):
    write(root / "train.csv", "file|short|long\na.jpg|pond|a pond by a road\nb.jpg||trees\n")
    with pytest.raises(UserError, match=r"header is 'file\|short\|long'.*image_column="):
        PairsTable(root, "train")
    options = {"image_column": "file", "separator": "|"}
    data = PairsTable(root, "train", text_column=["short", "long"], **options)
    assert [e.texts for e in data.entries] == [("pond", "a pond by a road"), ("trees",)]
    assert data.empty_captions == 1 and data.problems == ["1 empty caption(s) were left out."]
    with pytest.raises(UserError, match="caption column"):
        PairsTable(root, "train", text_column=["short", "tall"], **options)


def test_several_tables_and_image_folders(root):
    picture(root / "more" / "d.jpg")
    write(root / "one.csv", "filepath,title\na.jpg,x\n")
    write(root / "two.csv", "title\tfilename\ny\td.jpg\nz\ta.jpg\n")
    data = PairsTable(root, table=["one.csv", "two.csv"], images=[".", "more", "none"])
    assert [(e.id, e.texts) for e in data.entries] == [("a.jpg", ("x", "z")), ("d.jpg", ("y",))]
    assert data.entries[1].path == str(root / "more" / "d.jpg") and data[1].texts == ["y"]


def test_gb18030_is_read_and_other_encodings_are_not_guessed(root):
    write(root / "train.csv", "filename,title\na.jpg,ponds’ 池塘\n", "gb18030")
    assert PairsTable(root, "train")[0].texts == ["ponds’ 池塘"]
    for text in ("\xe9 ", "une rivi\xe8re pr\xe8s du ch\xe2teau"):
        write(root / "train.csv", f"filename,title\na.jpg,x\nb.jpg,{text}\n", "latin-1")
        data = PairsTable(root, "train")
        assert data[1].texts == [text] and "Windows-1252" in data.problems[0]
    write(root / "train.csv", "filename,title\na.jpg,x\nb.jpg,\xa7\xb7\xb1 \n", "latin-1")
    with pytest.raises(UserError, match=r"train\.csv: line 3 is not UTF-8.*encoding="):
        PairsTable(root, "train")
    assert PairsTable(root, "train", encoding="latin-1")[1].texts == ["\xa7\xb7\xb1 "]
    write(root / "train.csv", "filename,title\na.jpg,x\n", "utf-16")
    assert PairsTable(root, "train")[0].texts == ["x"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('filepath,title\na.jpg,"x" y\nb.jpg,z\n', r"train\.csv, line 2: the quoting is broken"),
        ('filepath,title\na.jpg,x\n\nb.jpg,"z\na.jpg,y\n', r"line 4: the quoting is broken"),
        ("filepath,title\na.jpg,x\nb.jpg,trees, tall\n", r"line 3: 3 columns, the header has 2"),
        ("filepath,title\na.jpg\n", r"line 2: 1 columns"),
        ("filepath,title\n,x\n", r"line 2: the image has no name"),
        ("filepath,title\n", "no line below"),
        ("", r"train\.csv is empty"),
        ("file|text\na.jpg|x\n", r"header is 'file\|text'.*comma or tab or semicolon"),
        (
            "filepath,title\nq.jpg,x\nr.jpg,y\na.jpg,z\n",
            r"2 of 3 images are not in .*q\.jpg, r\.jpg",
        ),
    ],
)
def test_bad_tables_name_file_and_line(root, text, words):
    write(root / "train.csv", text)
    with pytest.raises(UserError, match=words):
        PairsTable(root, "train")


def test_a_quote_that_is_never_closed_is_named_where_it_opens(root):
    body = "".join(f"a.jpg,line {i} of many words\n" for i in range(20000))
    write(root / "train.csv", f'filepath,title\na.jpg,x\nb.jpg,"z\n{body}')
    with pytest.raises(UserError, match=r"line 3: a field of more than 131,072 .* closing quot"):
        PairsTable(root, "train")


def test_no_table_names_those_there_are(root):
    write(root / "mine.tsv", "")
    with pytest.raises(
        UserError, match=r"no val\.csv .*There is mine\.tsv; choose one with table="
    ):
        PairsTable(root, "val")
    with pytest.raises(UserError, match=r"there is no x\.csv"):
        PairsTable(root, table="x.csv")
    with pytest.raises(UserError, match="no such folder"):
        PairsTable(root / "q", "train")


def test_missing_images_and_captions(root):
    write(root / "train.csv", "filepath,title\na.jpg,x\ngone.jpg,y\nb.jpg, \n")
    data = PairsTable(root, "train", missing="skip")
    assert [e.id for e in data.entries] == ["a.jpg"] and len(data.problems) == 3
    kept = PairsTable(root, "train", missing="keep")
    assert [e.id for e in kept.entries] == ["a.jpg", "gone.jpg"]
    assert describe(kept)["captions"]["count"] == 2


def test_entries_are_a_sequence_that_travels_to_workers(root):
    write(root / "train.csv", table(("filepath", "title"), ","))
    data = PairsTable(root, "train")
    again = pickle.loads(pickle.dumps(data))
    assert list(again.entries) == list(data.entries) and again.entries[-1].id == "b.jpg"
    assert data.entries[0:1] == [data.entries[0]]
    with pytest.raises(IndexError):
        data.entries[2]


SKY = "filepath,title,title_multi_objects\n"


def test_skyscript(tmp_path):
    name = "images2/a198234555_CH_19.jpg"
    picture(tmp_path / name)
    picture(tmp_path / "images3/w7_US_21.jpg")
    rows = f'{name},landuse of quarry,"landuse of quarry, surrounded by road"\n'
    table = "SkyScript_{}_filtered_by_{}.csv"
    write(tmp_path / table.format("train_top50pct", "CLIP_openai"), SKY + rows)
    write(tmp_path / "dataframe" / table.format("val_5K", "CLIP_laion_RS"), SKY + rows)
    write(tmp_path / "SkyScript_train_unfiltered_5M.csv", SKY + rows + "images3/w7_US_21.jpg,x,y\n")
    data = SkyScript(tmp_path)
    assert data[0].texts == ["landuse of quarry"]
    meta = data[0].meta
    assert (meta["osm"], meta["sensor"], meta["year"], meta["gsd"]) == (
        "a198234555",
        "SWISSIMAGE",
        2019,
        0.1,
    )
    multi = SkyScript(tmp_path, text_column="title_multi_objects")
    assert multi[0].texts == ["landuse of quarry, surrounded by road"]
    assert len(SkyScript(tmp_path, text_column=["title", "title_multi_objects"])[0].texts) == 2
    assert len(SkyScript(tmp_path, "val", filtered_by="CLIP_laion_RS")) == 1
    whole = SkyScript(tmp_path, subset="unfiltered")
    assert len(whole) == 2 and "gsd" not in whole.entries[1].meta
    assert name_meta("x/strange.jpg") == {}
    with pytest.raises(UserError, match=r"train_top30pct_filtered_by_CLIP_openai\.csv"):
        SkyScript(tmp_path, subset="top30pct")
    with pytest.raises(UserError, match="Did you mean top30pct"):
        SkyScript(tmp_path, subset="top30")
    with pytest.raises(UserError, match="polished captions"):
        SkyScript(tmp_path, polished=True)


@pytest.mark.parametrize("start", ["RSICD/", ""])
def test_skyscript_retrieval_finds_images_from_either_folder(tmp_path, start):
    picture(tmp_path / "RSICD/images/a.jpg")
    text = f"filepath,title\n{start}images/a.jpg,x\n{start}images/a.jpg,y\n"
    write(tmp_path / "RSICD/RSICD_img_txt_pairs_test.csv", text)
    data = SkyScriptRetrieval(tmp_path, "rsicd")
    assert data.name == "rsicd" and data[0].texts == ["x", "y"]


def test_remoteclip(tmp_path):
    for part, folder, name in (
        ("Ret-3_train", "Ret-3_train", "rsicd_a.jpg"),
        ("Det-10", "Det-10_part2/Det-10_part2", "dota_b.jpg"),
        ("Seg-4", "Seg-4", "isaid_c.png"),
    ):
        picture(tmp_path / "data" / folder / name)
        text = f"title\tfilename\na, b .\t{name}\nc .\t{name}\n"
        write(tmp_path / "csv_file/train" / f"{part}.csv", text, "utf-8-sig")
    picture(tmp_path / "data/Ret-3_test/rsicd_t.jpg")
    write(tmp_path / "csv_file/test/rsicd_test.csv", "filename\ttitle\nrsicd_t.jpg\tx\n")
    data = RemoteCLIPPairs(tmp_path)
    assert [e.id for e in data.entries] == ["rsicd_a.jpg", "dota_b.jpg", "isaid_c.png"]
    assert data.name == "remoteclip" and data[1].texts == ["a, b .", "c ."]
    assert len(RemoteCLIPPairs(tmp_path, "ret3+seg4")) == 2
    test = RemoteCLIPPairs(tmp_path, "test_rsicd")
    assert test.name == "rsicd" and test[0].meta["dataset"] == "rsicd"
    with pytest.raises(UserError, match=r"no split 'test'.*test_rsicd"):
        RemoteCLIPPairs(tmp_path, "test")
    with pytest.raises(UserError, match=r"rsitmd_test\.csv"):
        RemoteCLIPPairs(tmp_path, "test_rsitmd")


def test_georsclip_evaluation_tables(tmp_path):
    picture(tmp_path / "rsicd/RSICD_images/a.jpg")
    picture(tmp_path / "rsitmd/images/b.tif")
    write(tmp_path / "rsicd/rsicd_test.csv", "filename,title\na.jpg,it’s a pond 。\n", "gb18030")
    write(tmp_path / "rsitmd/rsitmd_test.csv", "filename,title\nb.tif,x\nb.tif,y\n")
    assert GeoRSCLIPEval(tmp_path, "rsicd")[0].texts == ["it’s a pond 。"]
    assert GeoRSCLIPEval(tmp_path, "rsitmd")[0].texts == ["x", "y"]
    assert GeoRSCLIPEval(tmp_path, "rsitmd").name == "rsitmd"


SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def own(root, file, text, n=30):
    for i in range(n):
        Image.new("RGB", (8, 6)).save(root / f"{i}.png")
    (root / file).write_text(text)
    return {s: {e.id for e in PairsTable(root, s, shares=SHARES).entries} for s in SHARES}


@pytest.mark.parametrize("file", ["captions.csv", "captions.jsonl"])
def test_one_table_is_divided_and_told(tmp_path, file):
    lines = [f"{i}.png,picture {i} {k}" for k in range(2) for i in range(30)]
    text = "\n".join(["image,caption", *lines])
    if file.endswith("jsonl"):
        rows = [
            {"image": f"{i}.png", "captions": [f"picture {i} {k}" for k in (0, 1)]}
            for i in range(30)
        ]
        text = "\n".join(map(json.dumps, rows))
    found = own(tmp_path, file, text)
    assert [len(found[s]) for s in SHARES] == [24, 3, 3] and len(set().union(*found.values())) == 30
    data = PairsTable(tmp_path, "val", shares=SHARES)
    assert len(data.entries[0].texts) == 2 and data.name == metric_word(tmp_path.name)
    assert f"{file} is the only table and was divided by image: train 24, val 3, test 3" in str(
        data.problems
    )
    named = PairsTable(tmp_path, "val", table=file, shares=SHARES)
    assert {e.id for e in named.entries} == found["val"]
    other = PairsTable(tmp_path, "val", shares=SHARES, split_seed=1)
    assert {e.id for e in other.entries} != found["val"]
    # The order of the lines does not matter.
    (tmp_path / file).unlink()
    body = text.split("\n")
    head, body = (body[:1], body[1:]) if file.endswith("csv") else ([], body)
    assert own(tmp_path, file, "\n".join([*head, *body[::-1]])) == found
    (tmp_path / file).write_text("\n".join(text.split("\n")[:2]))
    with pytest.raises(UserError, match=r"too few .* data\.splits\.val=null"):
        PairsTable(tmp_path, "val", shares=SHARES)


def test_a_table_of_a_split_is_not_divided(tmp_path):
    for i in range(2):
        Image.new("RGB", (8, 6)).save(tmp_path / f"{i}.png")
    for name in ("train", "validation"):
        (tmp_path / f"{name}.csv").write_text("image,caption\n0.png,a\n1.png,b\n")
    for split in ("train", "val"):
        assert len(PairsTable(tmp_path, split, shares=SHARES)) == 2
    with pytest.raises(
        UserError, match=r"no test\.csv .*table=train\.csv.*data\.splits\.test=null"
    ):
        PairsTable(tmp_path, "test", shares=SHARES)


def test_pairs_of_two_dates_from_a_table(tmp_path):
    (tmp_path / "images").mkdir()
    for i in range(20):
        for date in "ab":
            Image.new("RGB", (8, 6)).save(tmp_path / f"images/{i}{date}.png")
    rows = [f"{i}a.png,{i}b.png,change {i} {k},{i % 2}" for i in range(20) for k in range(2)]
    (tmp_path / "pairs.csv").write_text("\n".join(["before,after,caption,changeflag", *rows]))
    parts = {s: ChangeTable(tmp_path, s, shares=SHARES) for s in SHARES}
    assert [len(part) for part in parts.values()] == [16, 2, 2]
    sample = parts["val"][0]
    number = int(sample.meta["id"].split("a.png")[0])
    assert sample.layout == "before_after" and len(sample.images) == 2
    assert sample.texts == [f"change {number} 0", f"change {number} 1"]
    assert sample.meta["changeflag"] == number % 2
    with pytest.raises(
        UserError, match=r"header is 'one,two,caption'.*dataset\.before=, data\.dataset\.after="
    ):
        (tmp_path / "pairs.csv").write_text("one,two,caption\n")
        ChangeTable(tmp_path, "train", shares=SHARES)
    (tmp_path / "pairs.csv").write_text("before,after,caption,changeflag\n0a.png,0b.png,x,maybe\n")
    with pytest.raises(UserError, match=r"line 2: changeflag 'maybe' is not 0 or 1"):
        ChangeTable(tmp_path, "all", table="pairs.csv")


def test_one_sample_in_two_stages_is_an_error(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "0.png")
    Image.new("RGB", (8, 6)).save(tmp_path / "1.png")
    (tmp_path / "train.csv").write_text("image,caption\n0.png,a\n1.png,b\n")
    (tmp_path / "val.csv").write_text("image,caption\n1.png,b\n")
    make = partial(PairsTable, tmp_path)
    data = DataModule(make)
    data.dataset("train")
    with pytest.raises(UserError, match=r"1 of 1 samples of val .*1\.png.*data\.shared=allow"):
        data.dataset("val")
    allowed = DataModule(make, shared="allow")
    assert len(allowed.dataset("train")) == 2 and len(allowed.dataset("val")) == 1
    meant = DataModule(make, splits={"test": "train"})  # the same word says that it is meant
    assert len(meant.dataset("train")) == len(meant.dataset("test"))
