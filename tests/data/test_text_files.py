"""Files of text as people save them: marks, line ends, other encodings, depth."""

import json
import pickle

import pytest
from PIL import Image

from rsvlm.data.datasets.change_pairs import ChangePairs
from rsvlm.data.datasets.conversations import Conversations
from rsvlm.data.datasets.pickles import read_pickle
from rsvlm.data.datasets.scene_folder import SceneFolder
from rsvlm.data.text_files import detect_encoding, read_json, read_lines, read_names, read_records
from rsvlm.errors import UserError

MARK = b"\xef\xbb\xbf"


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16)).save(path)


def test_lists_as_windows_saves_them(tmp_path):
    for name in ("airport/0.png", "beach/0.png", "c/A/0.png", "c/B/0.png"):
        picture(tmp_path / name)
    (tmp_path / "names.txt").write_bytes(MARK + b"airport\r\n\r\nbeach\r\n")
    assert read_names(tmp_path / "names.txt") == ["airport", "beach"]
    assert read_lines(tmp_path / "names.txt") == ["airport", "", "beach"]
    (tmp_path / "names.txt").write_text("a\u2028b\nc\n", "utf-16")
    assert read_lines(tmp_path / "names.txt") == ["a\u2028b", "c"]
    (tmp_path / "c/list").mkdir()
    (tmp_path / "c/list/test.txt").write_bytes(MARK + b"0.png\r\n")
    assert len(ChangePairs(tmp_path / "c", "test")) == 1
    (tmp_path / "s").mkdir()
    for name in ("airport", "beach"):
        (tmp_path / name).rename(tmp_path / "s" / name)
    (tmp_path / "s/classes.txt").write_bytes(MARK + b"beach\r\nairport\r\n")
    (tmp_path / "s/test.txt").write_bytes(MARK + b"airport/0.png\r\n")
    data = SceneFolder(tmp_path / "s", "test", classes="classes.txt", split_file="test.txt")
    assert data.classes == ["beach", "airport"] and [e.label for e in data.entries] == [1]


@pytest.mark.parametrize(
    ("text", "encoding", "found"),
    [
        ("une rivi\u00e8re pr\u00e8s", "latin-1", "cp1252"),
        ("gr\u00f6\u00dfte Stra\u00dfe", "latin-1", "cp1252"),
        ("\u6c60\u5858\u65c1\u8fb9 a pond", "gb18030", "gb18030"),
        ("it\u2019s \u4e00", "gb18030", "gb18030"),
        ("rivi\u00e8re", "utf-8", "utf-8-sig"),
    ],
)
def test_an_encoding_is_the_one_that_reads_like_text(tmp_path, text, encoding, found):
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    got, told = detect_encoding(tmp_path / "t.csv", ("utf-8-sig", "gb18030", "cp1252"))
    assert got == found and bool(told) == (found == "cp1252")
    assert (tmp_path / "t.csv").read_text(got) == text


def test_json_lines_are_known_by_their_text(tmp_path):
    talk = [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "x"}]
    line = json.dumps({"image": "a.png", "conversations": talk})
    for text, count in ((line, 1), (f"{line}\n", 1), (f"{line}\n{line}\n", 2), (f"[{line}]", 1)):
        (tmp_path / "train.json").write_text(text)
        assert len(read_records(tmp_path / "train.json")) == count
    picture(tmp_path / "images/a.png")
    assert len(Conversations(tmp_path, "train")) == 1
    (tmp_path / "train.json").write_text('{\n"a": 1}')
    with pytest.raises(UserError, match="holds no list of records"):
        read_records(tmp_path / "train.json")


def test_deep_json_is_one_error(tmp_path):
    (tmp_path / "a.json").write_text("[" * 100_000)
    for read in (read_json, read_records):
        with pytest.raises(UserError, match="nested deeper"):
            read(tmp_path / "a.json")
    (tmp_path / "a.jsonl").write_text("1\n" + "[" * 100_000)
    with pytest.raises(UserError, match=r"line 2: .*nested deeper"):
        read_records(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    "attack",
    [
        b"\x80\x02Nr\xff\xff\xff\x0f.",  # memo 268,435,455
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",  # a text of 2**63 bytes
        b"\x80\x02cnumpy\ndtype\n}X\x04\x00\x00\x00codeK\x01s\x86b.",  # set on a class
        b"\x80\x02c_codecs\nencode\n}X\x01\x00\x00\x00aK\x01sb.",  # set on a function
        b"\x80\x02c_codecs\nencode\nN}X\x04\x00\x00\x00_runK\x01s\x86b.",
    ],
)
def test_a_pickle_takes_no_memory_and_changes_nothing(tmp_path, attack):
    (tmp_path / "x.pickle").write_bytes(attack)
    try:
        assert read_pickle(tmp_path / "x.pickle") is None
    except UserError as error:
        assert "x.pickle" in str(error)
    (tmp_path / "y.pickle").write_bytes(pickle.dumps({"a": b"\xe9"}, protocol=2))
    assert read_pickle(tmp_path / "y.pickle") == {"a": b"\xe9"}
