"""Files of predictions: what survives a kill, and what is refused."""

import json
import os

import numpy as np
import pytest

from rsvlm.data.prediction_files import (
    PartWriter,
    Predictions,
    parts_of,
    read_predictions,
    write_whole,
)
from rsvlm.data.prediction_records import (
    SCHEMA,
    DatasetFacts,
    Header,
    PredictionRecord,
    image_of,
    pack_features,
    record_of,
    unpack_features,
)
from rsvlm.data.rle import decode, encode
from rsvlm.errors import UserError

FACTS = DatasetFacts("toy", "test", 6, ["a", "b"])


def header(**fingerprint):
    return Header("exact", FACTS, {"checkpoint": "c", **fingerprint})


def write(folder, rank=0, first=0, batches=3):
    writer = PartWriter(folder, rank, header())
    for n in range(first, first + 2 * batches, 2):
        records = [PredictionRecord(i, f"s{i}", prediction=f"answer ü {i}") for i in (n, n + 1)]
        writer.append(records, [n, n + 1], [])
    writer.close()
    return writer.path


def test_a_record_comes_back_as_it_was():
    mask = np.zeros((5, 7), bool)
    mask[1:3, 2:6] = True
    one = PredictionRecord(
        "3#1",
        "name",
        question="what?",
        prediction="",
        finished=False,
        answer="this",
        boxes=[[0.1, 0.2, 1 / 3, 4.0]],
        angles=[None],
        masks=[encode(mask)],
        scores=[0.1 + 0.2, 1e-30],
        label=1,
        ranks=[0, 4],
        retrieved=[["2#0", 0.75]],
        values={"verdict": 0.5},
        features={"image": pack_features(np.array([1 / 3, -2e-7], np.float32))},
        more={"type": "count"},
    )
    back = record_of(json.loads(one.line()), "here")
    assert back == one and np.array_equal(decode(back.masks[0]), mask)
    assert unpack_features(back.features["image"]).tolist() == [
        np.float32(1 / 3),
        np.float32(-2e-7),
    ]
    # What is empty is not kept, but for the answer.
    assert json.loads(PredictionRecord(4).line()) == {"id": 4, "prediction": ""}
    assert [image_of(id) for id in (4, "4", "4#2", "a#1")] == [4, 4, 4, "a"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prediction": "x"}, "an object with an id"),
        ({"id": 1, "predicton": "x"}, "no field 'predicton' in schema 1. Did you mean prediction"),
        ({"id": 1, "prediction": None}, "prediction is None, not str"),
        ({"id": True}, "id is True, not str or int"),
        ({"id": 1, "boxes": {}}, "boxes is {}, not list"),
    ],
)
def test_what_is_no_record(row, says):
    with pytest.raises(UserError, match=says):
        record_of(row, "file, line 2")


def test_every_byte_may_be_the_last(tmp_path):
    """A part that is cut anywhere holds its whole batches, and goes on behind them."""
    content = write(tmp_path / "whole").read_bytes()
    whole = read_predictions(parts_of(tmp_path / "whole"))
    assert [one.id for one in whole.records] == list(range(6)) and not whole.missing
    for size in range(0, len(content), 7):
        folder = tmp_path / str(size)
        folder.mkdir()
        (folder / "part-0.jsonl").write_bytes(content[:size])
        held = read_predictions(parts_of(folder))
        done = sorted(held.done) if held else []
        assert done == list(range(len(done))) and len(done) % 2 == 0
        assert [one.id for one in held.records] == done if held else True
        write(folder, first=len(done), batches=3 - len(done) // 2)
        assert (folder / "part-0.jsonl").read_bytes() == content


def test_parts_are_merged_and_sorted(tmp_path):
    write(tmp_path, rank=1, first=0, batches=1)
    write(tmp_path, rank=10, first=2, batches=1)
    write(tmp_path, rank=0, first=4, batches=1)
    assert [path.name for path in parts_of(tmp_path)] == [f"part-{n}.jsonl" for n in (0, 1, 10)]
    held = read_predictions(parts_of(tmp_path))
    assert [one.id for one in held.records] == list(range(6))
    assert {(one.dataset, one.split) for one in held.records} == {("toy", "test")}
    write_whole(tmp_path / "all.jsonl", held)
    again = read_predictions([tmp_path / "all.jsonl"])
    assert again == held


def test_samples_without_records_and_unreadable_ones_are_remembered(tmp_path):
    writer = PartWriter(tmp_path, 0, header())
    writer.append([], [0, 1], ["a.png is cut short."])
    writer.append([], [2], ["a.png is cut short."])
    writer.close()
    held = read_predictions(parts_of(tmp_path))
    assert held.missing == [3, 4, 5] and held.skipped == ["a.png is cut short."]
    assert held.records == [] and isinstance(held, Predictions)


def damaged(path, change):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(change(lines)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda lines: [*lines[:1], lines[1][:20] + "\n", *lines[2:]],
            "line 2 is cut or no JSON.*del",
        ),
        (lambda lines: [*lines[:4], *lines[1:4], *lines[4:]], "id 0 stands twice"),
        (lambda lines: lines[1:], "no file of predictions: its first line is no header"),
        (
            lambda lines: [
                lines[0].replace(f'predictions": {SCHEMA}', 'predictions": 9'),
                *lines[1:],
            ],
            "version 9 of the schema, and this rsvlm reads 1: evaluate again",
        ),
        (lambda lines: [lines[0].replace('"facts"', '"fax"'), *lines[1:]], "header cannot be read"),
        (
            lambda lines: [*lines[:1], '{"id": 9, "x": 1}\n', *lines[1:]],
            "line 2: a prediction has no",
        ),
    ],
)
def test_damaged_files_say_what_to_do(tmp_path, change, says):
    damaged(write(tmp_path), change)
    with pytest.raises(UserError, match=says):
        read_predictions(parts_of(tmp_path))


def test_parts_of_two_runs_do_not_mix(tmp_path):
    write(tmp_path)
    with pytest.raises(UserError, match=r"of another run: the checkpoint is d, was c.*new folder"):
        PartWriter(tmp_path, 0, header(checkpoint="d"))
    PartWriter(tmp_path, 1, header(checkpoint="d")).append([PredictionRecord(9)], [9], [])
    with pytest.raises(UserError, match=r"do not belong together: the checkpoint is d, was c"):
        read_predictions(parts_of(tmp_path))


def test_an_id_in_two_parts_is_refused(tmp_path):
    write(tmp_path, rank=0)
    write(tmp_path, rank=1)
    with pytest.raises(UserError, match=r"part-1.jsonl, line 2: id 0 stands twice, also in part-0"):
        read_predictions(parts_of(tmp_path))


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "predictions").write_text("a file in the way")
    with pytest.raises(UserError, match=r"cannot be written.*hydra\.run\.dir="):
        PartWriter(tmp_path / "predictions", 0, header())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_disk_that_fills_leaves_what_was_written(tmp_path):
    path = write(tmp_path, batches=2)
    before = path.read_bytes()
    writer = PartWriter(tmp_path, 0, header())

    class Full:
        """A file on a disk that takes half of what it is given."""

        def __init__(self, file):
            self.file = file

        def write(self, data):
            self.file.write(data[: len(data) // 2])

        def flush(self):
            self.file.flush()
            raise OSError(28, "No space left on device")

        def close(self):
            self.file.close()

    writer._file = Full(writer._file)
    records = [PredictionRecord(4, prediction="x" * 1000)]
    with pytest.raises(UserError, match=r"No space left.*What it held before is whole.*resume="):
        writer.append(records, [4, 5], [])
    assert path.read_bytes() == before
    assert read_predictions([path]).missing == [4, 5]
