"""Every option of conf/data reads its published layout: inspected, built, and asked for a batch."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image

from rsvlm.__main__ import main
from rsvlm.data.collate.pairs import PairCollate
from rsvlm.data.transforms import Preprocess

ROOT = Path(__file__).parents[2]
OPTIONS = sorted(path.stem for path in (ROOT / "conf" / "data").glob("[!_]*.yaml"))


def picture(ext="JPEG"):
    out = io.BytesIO()
    Image.fromarray(np.full((6, 8, 3), 90, np.uint8)).save(out, ext)
    return out.getvalue()


def put(root, path, content):
    path = root / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def tar(root, path, samples):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        for i, fields in enumerate(samples):
            for field, content in fields.items():
                info = tarfile.TarInfo(f"{i:05d}.{field}")
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
    put(root, path, out.getvalue())


def karpathy(file, folder, ext, splits=("train", "val", "test")):
    def make(root):
        records = []
        for i in range(4 * len(splits)):
            put(root, f"{folder}/{i}.{ext}", picture("TIFF" if ext == "tif" else "JPEG"))
            sentences = [{"raw": f"caption {i} {k}"} for k in range(5)]
            split = splits[i % len(splits)]
            records.append({"filename": f"{i}.{ext}", "split": split, "sentences": sentences})
        put(root, file, json.dumps({"images": records}))

    return make


def nwpu(root):
    rows = []
    for i in range(12):
        put(root, f"NWPU_images/airplane/airplane_{i:03d}.jpg", picture())
        row = {"filename": f"airplane_{i:03d}.jpg", "split": ("train", "val", "test")[i % 3]}
        keys = ("raw", "raw_1", "raw_2", "raw_3", "raw_4")
        rows.append(row | dict.fromkeys(keys, f"caption {i}"))
    put(root, "dataset_nwpu.json", json.dumps({"airplane": rows}))


def georsclip_scenes(root):
    for folder in ("AID/Bare Land", "AID/beach", "RESISC45/golf course", "RESISC45/lake"):
        put(root, f"{folder}/1.jpg", picture())
    for folder in ("AnnualCrop", "SeaLake"):
        put(root, f"eurosat-rgb/2750/{folder}/{folder}_1.jpg", picture())


def precomp(root):
    for split in ("train", "test"):
        names = [f"{split}_{i}.tif" for i in range(4)]
        for name in names:
            put(root, f"images/{name}", picture("TIFF"))
        put(root, f"{split}_filename.txt", "\n".join(names) + "\n")
        put(root, f"{split}_caps.txt", "a caption\n" * 20)


def table(root, path, names, header="filepath,title", folder="", separator=","):
    for name in names:
        put(root, f"{folder}{name}", picture())
    rows = [separator.join((name, f"caption {i}")) for i, name in enumerate(names)]
    put(root, path, "\n".join([header.replace(",", separator), *rows]) + "\n")


def pairs(root):
    for split in ("train", "val", "test"):
        table(root, f"{split}.tsv", [f"{split}_{i}.jpg" for i in range(4)], separator="\t")


def skyscript(root):
    for word in ("train_top50pct", "val_5K", "test_30K"):
        names = [f"images2/w{len(word)}{i}_US_20.jpg" for i in range(4)]
        table(root, f"SkyScript_{word}_filtered_by_CLIP_openai.csv", names)


def remoteclip(root):
    for part, folder in (
        ("train/Ret-3_train", "Ret-3_train"),
        ("train/Det-10", "Det-10_part1"),
        ("train/Seg-4", "Seg-4"),
        ("test/rsicd_test", "Ret-3_test"),
    ):
        names = [f"{folder}_{i}.jpg" for i in range(2)]
        folder = f"data/{folder}/"
        table(root, f"csv_file/{part}.csv", names, "filename,title", folder, "\t")


def rs5m(root):
    for split in ("train", "val"):
        for subset in ("pub11", "rs3"):
            for i in range(32):
                name = f"{subset}_{i}".encode()
                fields = {"img_content": picture(), "img_name": name, "caption": b"a caption"}
                tar(root, f"{split}/{subset}-{split}-{i:04d}.tar", [fields])


def gaia(root):
    facts = json.dumps({"id": 1, "captions": ["The image showcases: a flood."] * 5}).encode()
    for split in ("train", "val", "test"):
        fields = {"png": picture("PNG"), "txt": b"alt", "json": facts}
        tar(root, f"{split}/00000.tar", [fields] * 4)


def gaia_json(root):
    for split in ("train", "val", "test"):
        records = []
        for i in range(4):
            put(root, f"images/{split}{i}.png", picture("PNG"))
            records.append({"id": f"{split}{i}", "captions": ["The image showcases: x."] * 5})
        put(root, f"{split}_data.json", json.dumps(records))


def plain_shards(root):
    for split in ("train", "val", "test"):
        tar(root, f"{split}-0000.tar", [{"jpg": picture(), "txt": b"a caption"}] * 4)


def bench(root):
    table(root, "aid/aid_img_txt_pairs_test.csv", ["a.jpg", "b.jpg"], folder="aid/")
    put(root, "aid/aid_img_txt_pairs_test.csv", "filepath,label\na.jpg,pond\nb.jpg,beach\n")
    put(root, "aid/classnames.txt", "beach\npond\n")


def airslt(root):
    points = [[[1, 1], [5, 1], [5, 4]]]
    facts = [{"caption": "a pond", "jpg_name": f"{i}.jpg", "points": points} for i in range(2)]
    put(root, "annotations/anno.json", json.dumps(facts))
    for i in range(2):
        put(root, f"imgs/{i}.jpg", picture())


def whu(root):
    from rsvlm.data.datasets.whurs19 import CLASSES

    for name in CLASSES:
        put(root, f"images/{name.replace(' ', '')}_01.jpg", picture())


MAKERS = {
    "airslt": airslt,
    "gaia": gaia,
    "gaia_json": gaia_json,
    "georsclip_eval": lambda root: table(
        root, "rsicd/rsicd_test.csv", ["a.jpg", "b.jpg"], "filename,title", "rsicd/RSICD_images/"
    ),
    "georsclip_scenes": georsclip_scenes,
    "nwpu_captions": nwpu,
    "pairs": pairs,
    "precomp": precomp,
    "remoteclip": remoteclip,
    "rs5m": rs5m,
    "rsicd": karpathy("dataset_rsicd.json", "RSICD_images", "jpg"),
    "rsitmd": karpathy("dataset_RSITMD.json", "images", "tif", ("train", "test")),
    "shards": plain_shards,
    "skyscript": skyscript,
    "skyscript_bench": bench,
    "skyscript_retrieval": lambda root: table(
        root, "RSICD/RSICD_img_txt_pairs_test.csv", ["RSICD/a.jpg", "RSICD/b.jpg"]
    ),
    "sydney_captions": karpathy("dataset.json", "imgs", "tif"),
    "ucm_captions": karpathy("dataset.json", "imgs", "tif"),
    "whurs19": whu,
}


def tokenizer(texts, context_length):
    ids = torch.zeros(len(texts), context_length, dtype=torch.long)
    for row, text in zip(ids, texts, strict=True):
        words = text.split()[: context_length - 1]
        row[: len(words) + 1] = torch.tensor([*(len(word) for word in words), 50000])
    return ids


def test_the_readers_of_this_issue_are_covered():
    assert len(MAKERS) >= 18 and set(MAKERS) <= set(OPTIONS)


@pytest.mark.parametrize("option", sorted(MAKERS))
def test_an_option_reads_its_published_layout(compose, tmp_path, capsys, option):
    root = tmp_path / option
    MAKERS[option](root)
    status = main(["inspect", "--data", option, "--root", str(root), "--read"])
    text = capsys.readouterr()
    assert status == 0, text.err
    assert "images" in text.out and "8 x 6" in text.out

    words = [f"data={option}", f"data.root={root}", "data.workers=0", "data.eval_batch_size=2"]
    if "batch_size: 256\neval" in (ROOT / "conf" / "data" / f"{option}.yaml").read_text():
        words.append("data.batch_size=2")
    data = instantiate(compose("train", words).data)
    data.connect(
        preprocess=Preprocess(16),
        train_collate=PairCollate(tokenizer),
        eval_collate=PairCollate(tokenizer, all_texts=True),
        image_size=16,
    )
    seen = 0
    for stage in ("train", "val", "test"):
        if not data.has(stage):
            continue
        loader = {"train": data.train_dataloader, "val": data.val_dataloader}.get(
            stage, data.test_dataloader
        )()
        batch = next(iter(loader))
        assert batch.images.shape[1:] == (3, 16, 16) and not batch.skipped
        assert batch.texts or batch.label.min() >= 0
        seen += 1
    assert seen
