"""Data sets of tars: the published layouts, what is left out, and our own writer."""

import io
import json
import pickle
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from rsvlm.__main__ import main
from rsvlm.cli.shards import write
from rsvlm.data.datasets import RS5M, RSICD, SceneFolder, Shards
from rsvlm.data.datasets.shards import MANIFEST
from rsvlm.data.images import BrokenImage
from rsvlm.data.inspection.describe import describe
from rsvlm.data.sample import Sample
from rsvlm.errors import UserError


def picture(value, ext="PNG", size=(8, 6)):
    out = io.BytesIO()
    Image.fromarray(np.full((size[1], size[0], 3), value, np.uint8)).save(out, ext)
    return out.getvalue()


def tar(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in files:
            if not isinstance(content, bytes):
                content = json.dumps(content).encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def test_open_clip_tars(tmp_path):
    files = [
        ("0.jpg", picture(10, "JPEG")),
        ("0.txt", b"a pond  \n"),
        ("1.webp", picture(20, "WEBP")),
        ("1.txt", b"trees"),
        ("1.json", {"caption": "trees", "width": 8, "label": "wood", "meta": 3}),
        ("2.png", picture(30)),
        ("2.json", {"caption": "sand"}),
        ("3.png", picture(40)),
        ("3.cls", b"4"),
        ("4.png", picture(50)),
        ("5.txt", b"no picture"),
    ]
    tar(tmp_path / "train-0000.tar", files)
    data = Shards(tmp_path, "train", name="mine")
    assert len(data) == 4 and data.shard_sizes == [4]
    assert [e.texts for e in data.entries] == [("a pond",), ("trees",), ("sand",), ()]
    assert [e.id for e in data.entries] == ["0", "1", "2", "3"]
    assert data[3].label == 4 and data[0].label is None
    assert data[1].meta["label"] == "wood" and data[1].meta["meta"] == 3 and data[1].label is None
    assert data[1].meta["width"] == 8 and data[1].meta["dataset"] == "mine"
    assert data[2].images[0].getpixel((0, 0)) == (30, 30, 30)
    assert data[0].meta["path"].endswith("train-0000.tar/0.jpg")
    assert data.problems == [
        "train-0000.tar: 2 of 6 samples lack an image or a text and were left out, the first: 4."
    ]
    assert data.image(2).size == (8, 6)
    again = pickle.loads(pickle.dumps(data))
    assert again[1].texts == ["trees"]


def test_names_splits_and_missing_shards(tmp_path):
    for name in ("part-0.tar", "part-1.tar", "part-3.tar", "val/00000.tar"):
        tar(tmp_path / name, [(f"{name[5]}.png", picture(1)), (f"{name[5]}.txt", b"x")])
    assert len(Shards(tmp_path, "val")) == 1
    assert len(Shards(tmp_path, "train", shards="part-*.tar")) == 3
    assert len(Shards(tmp_path, "train", shards=["part-0.tar", "part-{1..1}.tar"])) == 2
    by_split = {"train": "part-0.tar", "val": ["part-1.tar"]}
    assert Shards(tmp_path, "val", shards=by_split).entries[0].id == "1"
    with pytest.raises(UserError, match="names no tars for split 'test'; it has train, val"):
        Shards(tmp_path, "test", shards=by_split)
    with pytest.raises(UserError, match=r"1 of 4 shards are not in .*part-2\.tar.*missing=skip"):
        Shards(tmp_path, "train", shards="part-{0..3}.tar")
    some = Shards(tmp_path, "train", shards="part-{0..3}.tar", missing="skip")
    assert len(some) == 3 and "part-2.tar" in some.problems[0]
    with pytest.raises(UserError, match=r"(?s)no train-\*\.tar and no tar in train/.*data\.root="):
        Shards(tmp_path, "train")
    with pytest.raises(UserError, match="no such folder"):
        Shards(tmp_path / "gone", "train")
    tar(tmp_path / "test-0.tar", [("a.bin", b"x"), ("b.txt", b"y")])
    with pytest.raises(UserError, match="the fields there are bin, txt, expected one of jpg"):
        Shards(tmp_path, "test")


@pytest.mark.parametrize(
    ("side", "words"),
    [
        (("json", b"{"), r"0\.png: its text cannot be used"),
        (("json", b"[1]"), "not an object"),
        (("json", {"captions": 3}), "not a list of texts"),
        (("txt", b"\xff\xfe"), "its text cannot be used"),
        (("txt", b"  "), "neither a caption"),
        (("cls", b"pond"), "its text cannot be used"),
    ],
)
def test_a_broken_text_is_an_error_of_its_sample_alone(tmp_path, side, words):
    good = [("1.png", picture(1)), ("1.txt", b"fine")]
    tar(tmp_path / "test-0.tar", [("0.png", picture(0)), (f"0.{side[0]}", side[1]), *good])
    data = Shards(tmp_path, "test")
    with pytest.raises(BrokenImage, match=words):
        data[0]
    assert data[1].texts == ["fine"]
    assert data.entries[0].texts == () and "fault" in data.entries[0].meta
    assert describe(data)["images"] == 2


def test_a_cut_tar_serves_what_lies_before_the_cut(tmp_path):
    files = [(f"{i}.{e}", c) for i in range(5) for e, c in (("png", picture(i)), ("txt", b"x"))]
    path = tar(tmp_path / "train-0000.tar", files)
    tar(tmp_path / "train-0001.tar", files)
    data = path.read_bytes()
    path.write_bytes(data[: 4 * 1024 + 532])
    cut = Shards(tmp_path, "train")
    assert cut.shard_sizes == [2, 5] and [e.id for e in cut.entries][:3] == ["0", "1", "0"]
    assert len(cut.problems) == 1
    assert "train-0000.tar is cut short at byte 4628" in cut.problems[0]
    assert "Its 2 samples before that are served" in cut.problems[0]
    assert cut[1].images[0].getpixel((0, 0)) == (1, 1, 1)
    path.write_bytes(data[:2000])  # cut again behind the index's back
    with pytest.raises(BrokenImage, match="shorter since it was indexed"):
        cut[1]


def test_rs5m(tmp_path):
    def files(start, n):
        for i in range(start, start + n):
            yield f"{i:09d}.caption", f"caption {i} 机场".encode()
            yield f"{i:09d}.img_content", picture(i, "JPEG")
            yield f"{i:09d}.img_name", f"laion2b_{i}".encode()

    for i in range(32):
        tar(tmp_path / f"train/pub11-train-{i:04d}.tar", files(i, 1))
        tar(tmp_path / f"train/rs3-train-{i:04d}.tar", files(100 + i, 2))
    data = RS5M(tmp_path)
    assert len(data) == 96 and data.shard_sizes == [1] * 32 + [2] * 32
    sample = data[33]
    assert sample.texts == ["caption 101 机场"] and sample.images[0].size == (8, 6)
    assert sample.meta["id"] == "laion2b_101" and sample.meta["subset"] == "rs3"
    assert data.entries[5].meta["subset"] == "pub11"
    (tmp_path / "train/rs3-train-0031.tar").unlink()
    with pytest.raises(UserError, match=r"1 of 64 shards are not in .*rs3-train-0031\.tar"):
        RS5M(tmp_path)
    assert len(RS5M(tmp_path, missing="skip")) == 94
    assert len(RS5M(tmp_path, shards="train/pub11-*.tar")) == 32
    with pytest.raises(UserError, match="no split 'test', but train and val"):
        RS5M(tmp_path, "test")
    with pytest.raises(UserError, match=r"(?s)64 of 64 shards.*Expected:"):
        RS5M(tmp_path / "train")
    tar(tmp_path / "val/odd.tar", [("0.img_content", picture(0)), ("0.img_name", b"x")])
    with pytest.raises(UserError, match="the fields there are img_content, img_name"):
        RS5M(tmp_path, "val", shards="val/odd.tar")


def rsicd(root, n=7, broken=(), gone=()):
    (root / "RSICD_images").mkdir(parents=True)
    records = []
    for i in range(n):
        name = f"pond_{i}.jpg" if i % 2 else f"beach_{i}.jpg"
        path = root / "RSICD_images" / name
        path.write_bytes(picture(i * 20, "JPEG", (40 + i, 30)))
        if i in broken:
            path.write_bytes(path.read_bytes()[:40])
        sentences = [{"raw": f"caption {i} {k} 机场"} for k in range(3)]
        split = "test" if i == n - 1 else "train"
        records.append(
            {"filename": name, "split": split, "sentences": sentences, "scene": name.split("_")[0]}
        )
    (root / "dataset_rsicd.json").write_text(json.dumps({"images": records}))
    data = RSICD(root, "train")
    for i in gone:
        (root / "RSICD_images" / records[i]["filename"]).unlink()
    return data


def same(a, b):
    return (
        np.array_equal(np.asarray(a.images[0]), np.asarray(b.images[0]))
        and (a.texts, a.label) == (b.texts, b.label)
        and {**a.meta, "path": 0} == {**b.meta, "path": 0}
    )


def test_written_shards_read_back_as_the_source(tmp_path):
    source = rsicd(tmp_path / "rsicd", broken=(2,), gone=(3,))
    done = write(source, tmp_path / "out", per_shard=2)
    assert (done.shards, done.fresh, done.samples) == (3, 3, 6)
    assert done.unreadable == ["pond_3.jpg"]
    write(RSICD(tmp_path / "rsicd", "test"), tmp_path / "out", per_shard=2)
    data = Shards(tmp_path / "out", "train")
    assert (data.name, data.classes, data.licence) == ("rsicd", ["beach", "pond"], source.licence)
    assert len(data) == len(source) and data.shard_sizes == [2, 2, 2]
    for i in range(len(source)):
        assert data.entries[i].id == source.entries[i].id
        assert data.entries[i].texts == source.entries[i].texts
        if i in (2, 3):
            with pytest.raises(BrokenImage):
                data[i]
        else:
            assert same(data[i], source[i])
            stored, ext = data.stored(i)
            with open(source.entries[i].path, "rb") as file:
                assert stored == file.read() and ext == "jpg"
    assert len(Shards(tmp_path / "out", "test")) == 1
    with pytest.raises(UserError, match=r"no split 'val'; it has train \(6\), test \(1\)"):
        Shards(tmp_path / "out", "val")


def test_writing_goes_on_where_it_stopped(tmp_path):
    source = rsicd(tmp_path / "rsicd")
    write(source, tmp_path / "once", per_shard=2)
    write(source, tmp_path / "twice", per_shard=2)
    (tmp_path / "twice" / "train-0001.tar").unlink()
    (tmp_path / "twice" / "train-0001.tar.part").write_bytes(b"half")
    with pytest.raises(UserError, match=r"holds 2 of the 3 shards.*goes on where it stopped"):
        Shards(tmp_path / "twice", "train")
    before = (tmp_path / "twice" / "train-0000.tar").stat().st_mtime_ns
    done = write(source, tmp_path / "twice", per_shard=2)
    assert (done.shards, done.fresh) == (3, 1)
    assert (tmp_path / "twice" / "train-0000.tar").stat().st_mtime_ns == before
    for name in ("train-0000.tar", "train-0001.tar", "train-0002.tar", MANIFEST):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()
    with pytest.raises(UserError, match="per_shard=2, not 3"):
        write(source, tmp_path / "twice", per_shard=3)
    source.entries = source.entries[1:]
    with pytest.raises(UserError, match="of another source"):
        write(source, tmp_path / "twice", per_shard=2)
    with pytest.raises(UserError, match="at least 1"):
        write(source, tmp_path / "other", per_shard=0)


def test_size_scales_only_what_is_larger(tmp_path):
    source = rsicd(tmp_path / "rsicd", broken=(1,))
    write(source, tmp_path / "small", size=15)
    small = Shards(tmp_path / "small", "train")
    assert [small.image(i).size for i in (0, 2, 4)] == [(20, 15), (21, 15), (22, 15)]
    with pytest.raises(BrokenImage):
        small[1]
    assert small.entries[4].texts == source.entries[4].texts
    write(source, tmp_path / "large", size=100)
    large = Shards(tmp_path / "large", "train")
    with open(source.entries[0].path, "rb") as file:
        assert large.stored(0)[0] == file.read()


def test_scene_sets_memory_and_shards_themselves_can_be_written(tmp_path):
    for name in ("pond", "beach"):
        (tmp_path / "in" / name).mkdir(parents=True)
        Image.new("RGB", (3, 3), (9, 8, 7)).save(tmp_path / "in" / name / "1.PNG")
    scenes = SceneFolder(tmp_path / "in", name="made")
    write(scenes, tmp_path / "a")
    first = Shards(tmp_path / "a", "all")
    assert [e.label for e in first.entries] == [0, 1] and first.classes == ["beach", "pond"]
    write(first, tmp_path / "b")
    assert same(Shards(tmp_path / "b", "all")[1], first[1])

    class Made:
        name, split, licence = "made", "train", "mine"

        def __init__(self, layout="single"):
            pixels = torch.arange(3 * 4 * 5, dtype=torch.uint8).reshape(3, 4, 5)
            meta = {"id": "x", "gsd": np.float32(0.5)}
            images = [pixels] * (1 + (layout == "before_after"))
            self.sample = Sample(images, layout, texts=["a", "b"], label=1, meta=meta)

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return self.sample

    write(Made(), tmp_path / "c")
    back = Shards(tmp_path / "c", "train")[0]
    assert np.array_equal(np.asarray(back.images[0]).transpose(2, 0, 1), Made().sample.images[0])
    assert back.texts == ["a", "b"] and back.meta["gsd"] == 0.5 and back.meta["id"] == "x"
    with pytest.raises(UserError, match="samples of several images"):
        write(Made("before_after"), tmp_path / "d")


def test_webdataset_reads_what_we_write(tmp_path):
    wds = pytest.importorskip("webdataset", reason="needs rsvlm[shards]")
    source = rsicd(tmp_path / "rsicd")
    write(source, tmp_path / "out", per_shard=4)
    urls = str(tmp_path / "out" / "train-{0000..0001}.tar")
    read = list(wds.WebDataset(urls, shardshuffle=False, empty_check=False))
    data = Shards(tmp_path / "out", "train")
    assert [s["__key__"] for s in read] == [data.key(i) for i in range(len(data))]
    for i, sample in enumerate(read):
        assert sample["jpg"] == data.stored(i)[0]
        assert tuple(json.loads(sample["json"])["captions"]) == data.entries[i].texts


def test_we_read_what_webdataset_writes(tmp_path):
    wds = pytest.importorskip("webdataset", reason="needs rsvlm[shards]")
    with wds.TarWriter(str(tmp_path / "train-0000.tar")) as sink:
        for i in range(3):
            sink.write({"__key__": f"s{i}", "jpg": picture(i, "JPEG"), "txt": f"caption {i}"})
    data = Shards(tmp_path, "train")
    assert [e.texts for e in data.entries] == [(f"caption {i}",) for i in range(3)]
    assert not data.problems


def test_the_tools(tmp_path, capsys):
    rsicd(tmp_path / "rsicd")
    root, out = str(tmp_path / "rsicd"), str(tmp_path / "out")
    words = ["shards", "--data", "rsicd", "--root", root, "--out", out, "--per-shard", "4"]
    assert main([*words, "--split", "train", "--split", "test"]) == 0
    text = capsys.readouterr().out
    assert "train: 6 samples in 2 shards" in text and "data.root=" in text
    assert main([*words, "--split", "train"]) == 0
    assert "2 were there" in capsys.readouterr().out
    assert main(["inspect", "--data", "shards", "--root", out, "--split", "train", "--read"]) == 0
    assert "rsicd, split train: 6 images" in capsys.readouterr().out
    assert main(["inspect", "--data", "shards", "--root", out, "shard=x"]) == 1
    assert "Did you mean shards" in capsys.readouterr().err
    assert main(["inspect", "--data", "shards", "--root", out, "shards"]) == 1
    assert "key=value" in capsys.readouterr().err
    assert (
        main(["inspect", "--data", "rsitmd", "--root", root, "annotations=dataset_rsicd.json"]) == 0
    )
    text = capsys.readouterr().out
    assert "split train: 6 images" in text and "captions were kept" in text and "val" not in text
