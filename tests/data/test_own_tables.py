"""Files of one's own: formats that are found, and bad input that is one sentence."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from rsvlm.cli.inspect import main as inspect
from rsvlm.data.datasets.change_table import ChangeTable
from rsvlm.data.datasets.class_table import ClassTable
from rsvlm.data.datasets.coco import Coco
from rsvlm.data.datasets.conversations import Conversations
from rsvlm.data.datasets.dota import DOTA
from rsvlm.data.datasets.mask_folder import MaskFolder
from rsvlm.data.datasets.pairs import PairsTable
from rsvlm.data.datasets.scene_folder import SceneFolder
from rsvlm.data.inspection.describe import describe
from rsvlm.errors import UserError

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}


def pictures(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (i, 2 * i, 90)).save(folder / name)


def table(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def within(folder, n=3):
    """Arrow columns as `datasets` writes them: pictures within the table, class numbers."""
    pa = pytest.importorskip("pyarrow")
    pictures(folder / "made", *(f"{i}.png" for i in range(n)))
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = [
        {"bytes": (folder / f"made/{i}.png").read_bytes(), "path": f"{i}.png"} for i in range(n)
    ]
    features = {"label": {"names": ["pond", "road"], "_type": "ClassLabel"}}
    columns = {
        "image": pa.array(cells, kind),
        "text": pa.array([f"caption {i}" for i in range(n)]),
        "label": pa.array([i % 2 for i in range(n)]),
    }
    meta = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa, pa.table(columns).replace_schema_metadata(meta)


def test_an_imagefolder_of_datasets(tmp_path):
    for split, n in (("train", 3), ("validation", 1)):
        pictures(tmp_path / split, *(f"{i}.png" for i in range(n)))
        rows = [(f"{i}.png", f"{split} {i}") for i in range(n)]
        table(tmp_path / split / "metadata.csv", ("file_name", "text"), rows)
    data = PairsTable(tmp_path, "val", shares=SHARES)
    assert data[0].texts == ["validation 0"] and data[0].images[0].size == (8, 6)
    assert "imagefolder of datasets, validation/metadata.csv" in str(describe(data))
    assert len(PairsTable(tmp_path, "train", shares=SHARES)) == 3


@pytest.mark.parametrize("form", ["parquet", "parts", "disk", "whole disk"])
def test_pictures_within_tables(tmp_path, form):
    pa, rows = within(tmp_path)
    folder = tmp_path / "data"
    folder.mkdir()
    if form == "parquet":
        from pyarrow import parquet

        parquet.write_table(rows, folder / "train.parquet", row_group_size=2)
    elif form == "parts":
        from pyarrow import parquet

        (folder / "data").mkdir()
        for i in range(2):
            part = rows.slice(2 * i, 2 - i)
            parquet.write_table(part, folder / f"data/train-0000{i}-of-00002.parquet")
    else:
        inner = folder / "train" if form == "disk" else folder
        inner.mkdir(exist_ok=True)
        with pa.ipc.new_stream(inner / "data-00000-of-00001.arrow", rows.schema) as out:
            out.write_table(rows)
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
        (inner / "state.json").write_text(json.dumps(state))
    shares = None if form == "whole disk" else SHARES
    data = PairsTable(folder, "train", shares=shares)
    assert [e.texts[0] for e in data.entries] == [f"caption {i}" for i in range(3)]
    assert [data[i].images[0].getpixel((0, 0))[0] for i in (2, 0, 1)] == [2, 0, 1]
    assert "Parquet" in data.notes[0] or "save_to_disk" in data.notes[0]
    labelled = ClassTable(folder, "train", shares=shares)
    assert labelled.classes == ["pond", "road"] and [e.label for e in labelled.entries] == [0, 1, 0]


def test_pictures_within_a_table_are_not_read_to_list_it(tmp_path, monkeypatch):
    from rsvlm.data.datasets import pairs

    _, rows = within(tmp_path)
    from pyarrow import parquet

    parquet.write_table(rows, tmp_path / "train.parquet", row_group_size=2)
    read, asked = parquet.ParquetFile.read_row_group, []

    def told(self, group, columns=None):
        asked.extend(columns)
        return read(self, group, columns=columns)

    monkeypatch.setattr(parquet.ParquetFile, "read_row_group", told)
    monkeypatch.setattr(pairs, "HEAVY", 100)
    data = PairsTable(tmp_path, "train")
    assert len(data) == 3 and "image" not in asked
    assert "row_group_size=100" in str(data.notes)
    assert data[2].images[0].getpixel((0, 0))[0] == 2 and "image" in asked


def test_a_damaged_parquet_file_is_one_sentence(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=r"train\.parquet is no whole parquet file.*LFS"):
        PairsTable(tmp_path, "train")


def test_classes_of_all_splits_have_one_label(tmp_path):
    pictures(tmp_path, *(f"{i}.png" for i in range(4)))
    table(tmp_path / "train.csv", ("image", "label"), [("0.png", "road"), ("1.png", "pond")])
    table(tmp_path / "test.csv", ("image", "label"), [("2.png", "beach"), ("3.png", "road")])
    train, test = ClassTable(tmp_path, "train"), ClassTable(tmp_path, "test")
    assert train.classes == test.classes == ["beach", "pond", "road"]
    assert [e.label for e in test.entries] == [0, 2]
    assert "3, 0 to 1 images each" in str(describe(test))
    (tmp_path / "test.csv").unlink()
    table(tmp_path / "train.csv", ("image", "label"), [("0.png", "Road"), ("1.png", "road")])
    with pytest.raises(UserError, match=r"Road and road.*data\.dataset\.ignore_case=true"):
        ClassTable(tmp_path, "train")
    assert len(ClassTable(tmp_path, "train", ignore_case=True).classes) == 1
    table(tmp_path / "train.csv", ("image", "label"), [("0.png", "a"), ("0.png", "b")])
    with pytest.raises(UserError, match=r"two classes in different rows: 0\.png"):
        ClassTable(tmp_path, "train")


# Conversations -----------------------------------------------------------------------------------

LLAVA = {
    "image": "0.png",
    "conversations": [
        {"from": "human", "value": "<image>\nWhat?"},
        {"from": "gpt", "value": "A pond."},
    ],
}
RECORDS = {
    "llava": LLAVA,
    "sharegpt": {"images": ["0.png"], "system": "", "conversations": LLAVA["conversations"]},
    "messages": {
        "images": ["0.png"],
        "messages": [
            {"role": "user", "content": "<image>\nWhat?"},
            {"role": "assistant", "content": "A pond."},
        ],
    },
    "openai": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "file://0.png"}},
                    {"type": "text", "text": "What?"},
                ],
            },
            {"role": "assistant", "content": [{"type": "text", "text": "A pond."}]},
        ]
    },
    "qwen": {
        "conversations": [
            {"from": "user", "value": "Picture 1: <img>0.png</img>\nWhat?"},
            {"from": "assistant", "value": "A pond."},
        ]
    },
    "swift": {"query": "<image>What?", "response": "A pond.", "images": ["0.png"]},
    "answers": {"image": "0.png", "question": "What?", "answer": "A pond."},
}
RECORDS["qwen parts"] = {
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "image", "image": "0.png"},
                *RECORDS["openai"]["messages"][0]["content"][1:],
            ],
        },
        RECORDS["messages"]["messages"][1],
    ]
}


@pytest.mark.parametrize("form", RECORDS)
def test_a_conversation_is_read_whatever_its_format(tmp_path, form):
    pictures(tmp_path, "0.png")
    (tmp_path / "my.json").write_text(json.dumps([RECORDS[form]]))
    data = Conversations(tmp_path / "my.json", "train")
    turns = [(turn.role, turn.text, turn.image_ids) for turn in data[0].turns]
    assert turns == [("user", "What?", (0,)), ("assistant", "A pond.", ())]
    assert data.notes == [f"my.json: records in the format {form.split()[0]} (1)."]
    assert not data.problems


def test_conversations_are_divided_by_image_and_refuse_addresses(tmp_path):
    pictures(tmp_path, *(f"{i}.png" for i in range(10)))
    records = [LLAVA | {"image": f"{i % 10}.png", "id": i} for i in range(20)]
    (tmp_path / "my.json").write_text(json.dumps(records))
    parts = {s: Conversations(tmp_path / "my.json", s, shares=SHARES) for s in SHARES}
    assert [len(part) for part in parts.values()] == [12, 4, 4]
    shown = [{e.path for e in part.entries} for part in parts.values()]
    assert len(set.union(*shown)) == sum(map(len, shown)) == 10
    (tmp_path / "my.json").write_text(json.dumps([LLAVA | {"image": "https://x.org/a.png"}]))
    with pytest.raises(UserError, match=r"my\.json\[0\].*is an address: fetch the images first"):
        Conversations(tmp_path / "my.json", "train")


# Masks, boxes, dates -----------------------------------------------------------------------------


def test_masks_in_folders(tmp_path):
    pictures(tmp_path / "images", "a.jpg", "b.jpg")
    (tmp_path / "masks").mkdir()
    mask = np.zeros((6, 8), np.uint8)
    mask[1:3, 2:5] = 255
    for name in "ab":
        Image.fromarray(mask).save(tmp_path / f"masks/{name}.png")
    sample = MaskFolder(tmp_path, "all")[0]
    (found,) = sample.instances
    assert (found.category, found.box, int(found.mask.sum())) == ("target", (2, 1, 5, 3), 6)
    (tmp_path / "classes.txt").write_text("pond\nroad\n")
    with pytest.raises(UserError, match=r"value 255, and there are 2 classes.*ignore=255"):
        MaskFolder(tmp_path, "all")[0]
    assert not MaskFolder(tmp_path, "all", ignore=255)[0].instances
    mask[mask == 255] = 2
    Image.fromarray(mask).save(tmp_path / "masks/a.png")
    data = MaskFolder(tmp_path, "all", ignore=255)
    assert [i.category for i in data[0].instances] == ["road"]
    assert data[0].semantic[0].max() == 2
    with pytest.raises(UserError, match=r"data\.splits\.train=all"):
        MaskFolder(tmp_path, "train")
    (tmp_path / "masks/b.png").unlink()
    with pytest.raises(UserError, match=r"1 of 2 masks are not in .*b\.jpg"):
        MaskFolder(tmp_path, "all")
    assert len(MaskFolder(tmp_path, "all", missing="skip")) == 1


def test_masks_of_palettes_colours_and_many_bits(tmp_path):
    pictures(tmp_path / "images", "a.png", "a.jpg")
    (tmp_path / "masks").mkdir()
    (tmp_path / "classes.txt").write_text("pond\nroad\n")
    numbers = np.zeros((6, 8), np.uint8)
    numbers[:2], numbers[2:4] = 1, 2
    colours = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)
    file = tmp_path / "masks/a.png"

    def read():
        return MaskFolder(tmp_path, "all")[0].semantic[0].tolist()

    # The second class of such a palette was read as background.
    indexed = Image.fromarray(numbers, "P")
    indexed.putpalette(colours.ravel().tolist())
    indexed.save(file)
    assert read() == numbers.tolist()
    Image.fromarray(numbers.astype(np.uint16)).save(file)
    assert read() == numbers.tolist()
    Image.fromarray(numbers.astype(np.uint16) * 500).save(file)
    with pytest.raises(UserError, match=r"holds values from 0 to 1000; numbers of classes are"):
        read()
    Image.fromarray(colours[numbers]).save(file)
    with pytest.raises(UserError, match=r"in colours \(\(0, 128, 0\), .*building 255 0 0"):
        read()
    (tmp_path / "classes.txt").write_text("pond 128,0,0\nroad: (0, 128, 0)\n")
    data = MaskFolder(tmp_path, "all")
    assert data[0].semantic[0].tolist() == numbers.tolist()
    assert [i.category for i in data[0].instances] == ["pond", "road"]
    # One of two pictures for a mask was taken without a word.
    assert any("a.jpg and a.png" in problem for problem in data.problems)
    (tmp_path / "classes.txt").write_text("pond 128 0 0\nroad\n")
    with pytest.raises(UserError, match="road lack a colour"):
        read()
    (tmp_path / "classes.txt").write_text("Background\npond\n")
    assert "leave it out of the classes" in str(MaskFolder(tmp_path, "all").problems)


def test_coco_masks_of_a_class_are_one(tmp_path):
    pictures(tmp_path / "images", "a.png")
    square = [[1, 1, 3, 1, 3, 3, 1, 3]], [[4, 2, 6, 2, 6, 4, 4, 4]]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 8, "height": 6}],
        "categories": [{"id": 1, "name": "ship"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2], "segmentation": s}
            for i, s in enumerate(square)
        ],
    }
    (tmp_path / "my.json").write_text(json.dumps(content))
    assert len(Coco(tmp_path / "my.json", "all")[0].instances) == 2
    (joined,) = Coco(tmp_path / "my.json", "all", objects="class")[0].instances
    assert joined.box == (1, 1, 6, 4) and joined.mask.sum() == 8
    content["categories"].append({"id": 2, "name": "Ship"})
    (tmp_path / "my.json").write_text(json.dumps(content))
    told = str(Coco(tmp_path / "my.json", "all").problems)
    assert "1 pair(s) of classes differ by case alone: give both one name: Ship and ship." in told
    pictures(tmp_path / "scenes", "Pond/a.png", "pond/a.png")
    told = str(SceneFolder(tmp_path / "scenes").problems)
    assert "the classes Pond and pond differ by case alone" in told
    with pytest.raises(UserError, match="objects='klass' is not known"):
        Coco(tmp_path / "my.json", "all", objects="klass")


def test_pairs_of_dates_with_masks(tmp_path):
    pictures(tmp_path, "a.png", "b.png")
    mask = np.zeros((6, 8), np.uint8)
    mask[:4, :4] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    table(tmp_path / "train.csv", ("before", "after", "mask"), [("a.png", "b.png", "m.png")])
    sample = ChangeTable(tmp_path, "train", instructions="region")[0]
    assert sample.meta["change_mask"].sum() == 16 and sample.meta["changeflag"] == 1
    assert sample.turns[1].text == "Yes"
    table(tmp_path / "train.csv", ("before", "after", "captoin"), [("a.png", "b.png", "x")])
    with pytest.raises(
        UserError, match=r"Is 'captoin' the caption column \(data\.dataset\.text_column=cap"
    ):
        ChangeTable(tmp_path, "train")


# Bad input ---------------------------------------------------------------------------------------


def test_a_missing_column_names_the_near_one(tmp_path):
    table(tmp_path / "train.csv", ("filepaht", "title"), [("0.png", "x")])
    with pytest.raises(
        UserError, match=r"'filepaht' the image column \(data\.dataset\.image_column=f"
    ):
        PairsTable(tmp_path, "train")
    table(tmp_path / "train.csv", ("image", "Captoin"), [("0.png", "x")])
    with pytest.raises(UserError, match=r"text_column=Captoin\)\? Name others"):
        PairsTable(tmp_path, "train")


@pytest.mark.parametrize("form", ["semicolons", "spaces", "utf-16", "json", "json of an object"])
def test_tables_as_spreadsheets_and_scripts_write_them(tmp_path, form):
    names = ["Straße 0.png", "1.png", "2.png"]
    pictures(tmp_path, *names)
    rows = list(zip(names, ["a pond, brown", "b", "c"], strict=True))
    if form.startswith("json"):
        records = [{"image": name, "caption": text} for name, text in rows]
        held = records if form == "json" else {"data": records}
        (tmp_path / "mine.json").write_text(json.dumps(held, indent=1))
    else:
        between = {"semicolons": ";", "spaces": ", ", "utf-16": "\t"}[form]
        lines = (
            [("Image", "Caption"), *rows] if form == "semicolons" else [("image", "caption"), *rows]
        )
        text = "".join(f'{a}{between}"{b}"\n' for a, b in lines)
        encoding = "utf-16" if form == "utf-16" else "utf-8-sig"
        (tmp_path / "mine.csv").write_bytes(text.encode(encoding))
    data = PairsTable(tmp_path, "all", shares=SHARES)
    assert [e.texts[0] for e in data.entries] == ["a pond, brown", "b", "c"]
    assert [e.id for e in data.entries] == names
    # Beside a table, JSON is something else.
    (tmp_path / "dataset_info.json").write_text("{}")
    table(tmp_path / "mine.csv", ("image", "caption"), [(n, "x") for n in names])
    (tmp_path / "mine.json").unlink(missing_ok=True)
    assert len(PairsTable(tmp_path, "all", shares=SHARES)) == 3


def test_boxes_that_are_shares_of_their_picture_are_refused(tmp_path):
    pictures(tmp_path / "train", "a.png")
    pictures(tmp_path / "train" / "images", "a.png")
    record = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0.5, 0.4, 0.2, 0.1]}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 8, "height": 6}],
        "categories": [{"id": 1, "name": "ship"}],
        "annotations": [record],
    }
    # Where Roboflow lays it.
    (tmp_path / "train/_annotations.coco.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"none of 1 boxes .*0\.5, 0\.4, .*as YOLO has them"):
        Coco(tmp_path, "train")
    record["bbox"] = [4, 2, 2, 1]
    (tmp_path / "train/_annotations.coco.json").write_text(json.dumps(content))
    assert Coco(tmp_path, "train").instances(0)[0].box == (4, 2, 6, 3)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_default.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"data\.dataset\.annotations=annotations/instances_defau"):
        Coco(tmp_path, "val")
    (tmp_path / "train/labelTxt").mkdir()
    labels = tmp_path / "train/labelTxt/a.TXT"
    labels.write_text(".1 .1 .3 .1 .3 .2 .1 .2 ship 0\r\n")
    with pytest.raises(UserError, match="YOLO"):
        DOTA(tmp_path, "train", classes=["ship"])
    labels.write_text("1 1 3 1 3 2 1 2 ship 0\r\n")
    assert len(DOTA(tmp_path, "train", classes=["ship"]).instances(0)) == 1
    labels.write_text("0 0.5 0.5 0.2 0.1\n")
    with pytest.raises(UserError, match="YOLO's has five numbers"):
        DOTA(tmp_path, "train", classes=["ship"])


def test_words_of_inspect_are_those_of_errors(tmp_path, capsys):
    pictures(tmp_path, "a.png", "b.png", "c.png")
    rows = [("a.png", "Pond"), ("b.png", "pond"), ("c.png", "pond")]
    table(tmp_path / "t.csv", ("file", "label"), rows)
    words = ["data.dataset.image_column=file", "data.dataset.ignore_case=true"]
    inspect(["--data", "class_table", "--root", str(tmp_path), *words, "data.splits.val=null"])
    said = capsys.readouterr().out
    # The commonest spelling is that of the whole table, in each split.
    assert "split train" in said and "split val" not in said and "Pond" not in said


def test_what_lies_in_the_place_of_a_table_is_named(tmp_path):
    pictures(tmp_path, "A.PNG")
    (tmp_path / "mine.xlsx").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"There is mine\.xlsx: save it as CSV\."):
        PairsTable(tmp_path, "train")
    for name in ("a", "a.png"):
        table(tmp_path / "train.csv", ("image", "caption"), [(name, "x")])
        with pytest.raises(UserError, match=r"'A\.PNG' is there: a name has its ending.*skip"):
            PairsTable(tmp_path, "train")
    table(tmp_path / "train.csv", ("image", "caption"), [("A.PNG", " ")])
    with pytest.raises(UserError, match=r"every caption is empty.*data\.dataset\.text_column="):
        PairsTable(tmp_path, "train")
    (tmp_path / "train.csv").write_text("")
    with pytest.raises(UserError, match=r"train\.csv is empty"):
        PairsTable(tmp_path, "train")


def test_names_from_windows(tmp_path):
    pictures(tmp_path / "images" / "sub", "0.png")
    table(tmp_path / "train.csv", ("image", "caption"), [("sub\\0.png", "x")])
    data = PairsTable(tmp_path, "train")
    assert data[0].images and "1 name(s) of files have backslashes" in str(data.problems)
    whole = "C:\\Users\\me\\my data\\sub\\0.png"
    table(tmp_path / "train.csv", ("image", "caption"), [(whole, "x")])
    with pytest.raises(UserError, match=r"data\.dataset\.strip=\"'C:/Users/me/my data/'\"$"):
        PairsTable(tmp_path, "train")
    assert PairsTable(tmp_path, "train", strip="C:/Users/me/my data/")[0].images
    table(tmp_path / "train.csv", ("image", "caption"), [("/home/x/sub/0.png", "x")])
    with pytest.raises(UserError, match=r"strip=/home/x/$"):
        PairsTable(tmp_path, "train")


def test_two_rows_of_one_id(tmp_path):
    pictures(tmp_path, "0.png", "1.png")
    rows = [(7, "0.png", "x"), (7, "0.png", "y"), (7, "1.png", "z")]
    table(tmp_path / "train.csv", ("id", "image", "caption"), rows)
    with pytest.raises(UserError, match=r"line 4: the id '7' is that of '0\.png' already"):
        PairsTable(tmp_path, "train")
    table(tmp_path / "train.csv", ("id", "image", "caption"), rows[:2])
    assert len(PairsTable(tmp_path, "train")[0].texts) == 2
