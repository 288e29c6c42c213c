"""Finding members in tars, keeping what was found, and naming what is wrong with a file."""

import gzip
import io
import os
import tarfile
import threading

import numpy as np
import pytest

from rsvlm.data.images import BrokenImage
from rsvlm.data.loading import tar_index
from rsvlm.errors import UserError


def write(path, files, format=tarfile.USTAR_FORMAT):
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


FILES = [
    (f"{i:03d}.{ext}", bytes([i]) * (700 * i + n)) for i in range(6) for n, ext in enumerate("ab")
]


def content(path, found):
    reader = tar_index.Reader([path])
    return [
        {
            field: reader.read(0, int(o), int(n))
            for field, o, n in zip(found.fields, offset, size, strict=True)
            if o >= 0
        }
        for offset, size in zip(found.offset, found.size, strict=True)
    ]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_that_tarfile_finds(tmp_path, format):
    names = ["a.jpg", "dir/b.c.json", "x" * 90 + ".jpg", "d" * 60 + "/" + "e" * 90 + ".txt"]
    if format != tarfile.USTAR_FORMAT:
        names += ["f" * 300 + ".jpg", "Straße 机场.jpg"]
    path = write(tmp_path / "a.tar", [(n, n.encode() * 50) for n in names], format)
    with tarfile.open(path, "a", format=format) as tar:
        info = tarfile.TarInfo("folder")
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "a.jpg"
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("last.jpg"))
    with tarfile.open(path) as tar:
        expected = [(m.name, m.offset_data, m.size) for m in tar if m.isfile()]
    assert list(tar_index.members(path)) == expected and len(expected) == len(names) + 1


def test_sizes_past_8_gib_are_understood():
    info = tarfile.TarInfo("large.jpg")
    info.size = 9 << 30
    header = info.tobuf(tarfile.GNU_FORMAT)
    assert tar_index._header(header) == ("large.jpg", 9 << 30, b"0")


def test_members_that_agree_up_to_the_first_dot_are_a_sample(tmp_path):
    files = [("d.x/1.jpg", b"a"), ("d.x/1.seg.png", b"b"), ("2.JSON", b"c"), (".hidden", b"")]
    files += [("2.jpg", b"d"), ("readme", b"x"), ("3.jpg", b"e"), ("3.jpg", b"f")]
    found = tar_index.build(write(tmp_path / "a.tar", files))
    assert [bytes(key) for key in found.keys] == [b"d.x/1", b"2", b"3", b"3"]
    assert content(tmp_path / "a.tar", found) == [
        {"jpg": b"a", "seg.png": b"b"},
        {"json": b"c", "jpg": b"d"},
        {"jpg": b"e"},
        {"jpg": b"f"},
    ]


def test_an_index_is_kept_and_made_again_when_the_tar_changes(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tar", FILES)
    first = tar_index.index(path)
    assert (tmp_path / "a.tar.index.npz").is_file() and not list(tmp_path.glob("*.part"))
    monkeypatch.setattr(tar_index, "build", lambda path: pytest.fail("walked again"))
    again = tar_index.index(path)
    assert again.fields == first.fields == ("a", "b")
    assert np.array_equal(again.offset, first.offset) and np.array_equal(again.keys, first.keys)
    monkeypatch.undo()
    write(path, FILES[:4])
    assert len(tar_index.index(path)) == 2
    os.utime(path, ns=(1, 1))  # the same size, another time
    walked = []
    build = tar_index.build
    monkeypatch.setattr(tar_index, "build", lambda path: walked.append(path) or build(path))
    tar_index.index(path)
    assert walked == [path]


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not a zip", b"\x93NUMPY"])
def test_a_damaged_index_is_made_again(tmp_path, damage):
    path = write(tmp_path / "a.tar", FILES)
    tar_index.index(path)
    (tmp_path / "a.tar.index.npz").write_bytes(damage)
    assert len(tar_index.index(path)) == 6
    half = (tmp_path / "a.tar.index.npz").read_bytes()
    (tmp_path / "a.tar.index.npz").write_bytes(half[: len(half) // 2])
    assert len(tar_index.index(path)) == 6


def test_where_the_folder_cannot_be_written_the_cache_is_used(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tar", FILES)
    opened = open

    def refuse(file, mode="r", *args, **kwargs):
        if "w" in mode and str(file).startswith(str(tmp_path / "a.tar")):
            raise PermissionError(13, "Permission denied", str(file))
        return opened(file, mode, *args, **kwargs)

    monkeypatch.setattr("io.open", refuse)
    tar_index.index(path, tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("*-a.tar.index.npz"))) == 1
    monkeypatch.setattr(tar_index, "build", lambda path: pytest.fail("walked again"))
    assert len(tar_index.index(path, tmp_path / "cache")) == 6


def whole_before(cut):
    """Samples whose members lie before a byte of FILES' tar."""
    at, whole = 0, 0
    for i, (_, data) in enumerate(FILES):
        at += 512 + len(data)
        if at > cut:
            break
        at = -(-at // 512) * 512
        whole += i % 2
    return whole


def test_a_cut_anywhere_leaves_the_samples_before_it(tmp_path):
    path = write(tmp_path / "a.tar", FILES)
    data = path.read_bytes()
    last = sum(512 + -(-len(d) // 512) * 512 for _, d in FILES)
    for cut in range(1024, last + 512, 256):
        path.write_bytes(data[:cut])
        found = tar_index.build(path)
        assert found.fault and str(cut) in found.fault
        parts = content(path, found)
        if not whole_before(cut):  # without one before it, a torn sample looks like a whole one
            parts = [sample for sample in parts if "b" in sample]
        assert parts == [
            {"a": FILES[2 * i][1], "b": FILES[2 * i + 1][1]} for i in range(whole_before(cut))
        ]
    path.write_bytes(data)
    assert not tar_index.build(path).fault and len(tar_index.build(path)) == 6


def test_damage_and_unfinished_downloads_are_told(tmp_path):
    path = write(tmp_path / "a.tar", FILES)
    data = bytearray(path.read_bytes())
    offset = next(o for name, o, _ in tar_index.members(path) if name == "003.a") - 512
    data[offset + 3] ^= 1
    path.write_bytes(data)
    found = tar_index.build(path)
    assert found.fault == f"is damaged at byte {offset} (a header's checksum is wrong)"
    assert len(found) == 3
    path.write_bytes(bytes(data[:offset]) + bytes(2 << 20))
    assert tar_index.build(path).fault.startswith(f"is empty from byte {offset} to")
    path.write_bytes(bytes(10240))
    assert tar_index.build(path).fault.startswith("is empty from byte 0")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        # mtime: test names must be the same in every worker.
        (gzip.compress(b"x" * 99, mtime=0), "compressed.*unpack"),
        (b"<!DOCTYPE html>" + b" " * 600, "text file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\xff\xd8\xff" * 400, "does not begin with a tar header"),
        (b"short", "does not begin with a tar header"),
    ],
)
def test_what_is_no_tar_is_named(tmp_path, data, words):
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(UserError, match=rf"a\.tar is not a tar: .*{words}"):
        tar_index.index(tmp_path / "a.tar")


def test_braces_globs_and_folders(tmp_path):
    names = [f"{a}-train-{i:04d}.tar" for a in ("pub11", "rs3") for i in range(3)]
    for name in [*names, "sub/b.tar", "sub/a.tar", "odd[1].tar"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")

    def found(*patterns):
        paths, missing = tar_index.expand(tmp_path, patterns)
        return [str(p.relative_to(tmp_path)) for p in paths], [p.name for p in missing]

    assert found("{pub11,rs3}-train-{0000..0002}.tar") == (names, [])
    assert found("rs3-train-{0001..0004}.tar") == (
        names[4:],
        ["rs3-train-0003.tar", "rs3-train-0004.tar"],
    )
    assert found("rs3-*.tar", "pub11-train-0001.tar") == ([*names[3:], names[1]], [])
    assert found("sub") == (["sub/a.tar", "sub/b.tar"], []) == found("sub", "sub/*.tar")
    assert found("odd[1].tar") == (["odd[1].tar"], [])
    assert found("{a{1..2},b}.tar")[1] == ["a1.tar", "a2.tar", "b.tar"]
    assert found(str(tmp_path / "sub" / "a.tar")) == (["sub/a.tar"], [])
    for pattern, words in (
        ("x-*.tar", "there is no"),
        ("{0..}.tar", "neither a range"),
        ("{3..1}.tar", "neither a range"),
        ("a{0..3.tar", "not closed"),
        ("a0..3}.tar", "not opened"),
        ("https://x.org/a.tar", "Download them, or mount"),
        ("pipe:cat a.tar", "Download them, or mount"),
    ):
        with pytest.raises(UserError, match=words):
            found(pattern)


def test_reading_from_threads_and_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tar_index, "_KEPT_OPEN", 2)
    paths = []
    for i in range(5):
        paths.append(tmp_path / f"{i}.bin")
        paths[-1].write_bytes(bytes([i]) * 5000)
    reader = tar_index.Reader(paths)
    wrong = []

    def work():
        for i in list(range(5)) * 20:
            if reader.read(i, 100, 50) != bytes([i]) * 50:
                wrong.append(i)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(reader._open) <= 2
    os.remove(paths[4])
    with pytest.raises(BrokenImage, match=r"4\.bin: cannot be read"):
        reader.read(4, 0, 1)
