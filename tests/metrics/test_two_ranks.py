"""Every metric over two gloo ranks with uneven shards equals the metric of one process."""

import time

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from test_captions_metric import METRICS_HERE, filled
from test_retrieval import feed, world
from warm import METHOD

from rsvlm.errors import UserError
from rsvlm.metrics import Accuracy, Probe, RemoteCount, Retrieval, SeLo, ZeroShot
from rsvlm.metrics.binary import Binary
from rsvlm.metrics.captions import Captions
from rsvlm.metrics.change import (
    ChangeCaptions,
    ChangeCounts,
    ChangeFlags,
    ChangeLocations,
    OpenQuestions,
)
from rsvlm.metrics.gather import KeptRecords, RecordMetric
from rsvlm.metrics.grounding import Detection, Grounding, Pointing
from rsvlm.metrics.judge_scores import Judged
from rsvlm.metrics.region_recognition import Naming
from rsvlm.metrics.segmentation import Segmentation
from rsvlm.metrics.selo import windows
from rsvlm.metrics.vqa import VQA

N = 23
WHOLE = [list(range(N))]
#: Per case: the batches of each rank. Copies of the padding, other sizes and numbers of batches;
#: then nothing at all on one of them.
SHARDS = {
    "uneven": ([[0, 2, 4, 6], [8, 10, 12, 1]], [[3, 1, 5], [7, 9, 11], list(range(13, N))]),
    "one_sided": ([], WHOLE),
}
#: Without copies, for metrics that keep sums.
DISJOINT = {
    "uneven": ([[0, 2, 4, 6], [8, 10, 12]], [[1, 3, 5], [7, 9, 11], list(range(13, N))]),
    "one_sided": ([], WHOLE),
}

ANSWERS = ["a road is built", "there is no difference", "yes", "no", "2 new roads, no new building"]
SAYS = [ANSWERS[i % 5] if i % 7 else "" for i in range(N)]
CELLS = ["roads ['top-left'] buildings []", "roads [] buildings ['center-center']", "trees"]


def drawn(*shape):
    return torch.randn(N, *shape, generator=torch.Generator().manual_seed(1))


def records():
    """Name -> metric, and each argument of `update` for all items."""
    flags = [i % 2 for i in range(N)]
    references = [["a road", "a road appears"] if i % 2 else [ANSWERS[1]] * 2 for i in range(N)]
    boxes = [None if i % 6 == 5 else (i, 0, i + 10, 10 + i % 3) for i in range(N)]
    truths = [(i + i % 4, 0, i + 10, 10) for i in range(N)]
    lists = [[(i + 7 * k, k, i + 7 * k + 10, 10) for k in range(4)] for i in range(N)]
    masks = list(drawn(6, 7) > 0)
    true = list((drawn(6, 7) + drawn(6, 7).flip(0)) > 0)
    several = [list((drawn(3, 5, 4) > 0)[i][: i % 4]) for i in range(N)]
    others = [list((drawn(3, 5, 4) > 0.5)[i][: 1 + i % 3]) for i in range(N)]
    quick = ["bleu2", "rouge_l", "cider"]
    return {
        "change_captions": (ChangeCaptions(metrics=quick), (SAYS, references)),
        "open": (OpenQuestions(metrics=quick), (SAYS, [one[:1] for one in references])),
        "flags": (ChangeFlags("levir_cc"), (SAYS, flags)),
        "yes_no": (ChangeFlags("yes_no"), (SAYS, flags)),
        "counts": (ChangeCounts("robust"), (SAYS, [(i % 3, i % 2) for i in range(N)])),
        "locations": (
            ChangeLocations(),
            ([CELLS[i % 3] for i in range(N)], [CELLS[i % 2] for i in range(N)]),
        ),
        "vqa": (VQA("rsivqa"), (SAYS, ["yes" if i % 2 else "4" for i in range(N)], [None] * N)),
        "grounding": (Grounding(), (boxes, truths)),
        "minigpt": (Grounding("minigpt"), (boxes, truths)),
        "pointing": (Pointing(), (boxes, truths)),
        "detection": (
            Detection(),
            (
                [b[: i % 4] for i, b in enumerate(lists)],
                [b[: 1 + i % 3] for i, b in enumerate(lists)],
            ),
        ),
        "judged": (Judged(), ([i % 3 / 2 for i in range(N)], list("xyz" * 8)[:N])),
        "naming": (Naming(), (SAYS, [ANSWERS[i % 3] for i in range(N)], list("abc" * 8)[:N])),
        "rmsin": (Segmentation("rmsin", size=9), (masks, true)),
        "lisa": (Segmentation("lisa"), (masks, true)),
        "pixellm": (Segmentation("pixellm"), (several, others)),
    }


def sums():
    """Name -> metric of sums, and how it takes a batch."""
    names = ["a", "b", "c"]
    labels = torch.arange(N) % 3
    features = F.normalize(drawn(8), dim=-1)
    captions = F.normalize(drawn(10, 8), dim=-1)
    zero = ZeroShot(names)
    zero.set_text_features(drawn(3, 8)[:2])
    selo = SeLo("selo", steps=(64,), kernel=3)
    square = [(10, 10), (60, 10), (60, 60), (10, 60)]

    def locate(rows):
        for row in rows:
            selo.update(drawn(len(windows(128, 128, (64,))))[row].numpy(), (128, 128), [square])

    return {
        "accuracy": (one := Accuracy(names), lambda r: one.update(drawn(3)[r], labels[r])),
        "zeroshot": (zero, lambda r: zero.update(features[r], labels[r])),
        "binary": (two := Binary(names), lambda r: two.update(drawn(3)[r] / 5, labels[r])),
        "remotecount": (
            three := RemoteCount(),
            lambda r: three.update(features[r], captions[r], 1 + torch.tensor(r) % 10),
        ),
        "selo": (selo, locate),
    }


def probes():
    """A probe per protocol, and how it takes a batch of both splits."""
    labels, features = torch.arange(N) % 3, drawn(8)
    found = {}
    for protocol, options in (("linear_probe", {"epochs": 20}), ("knn", {"k": 5})):
        probe = Probe(["a", "b", "c"], protocol, options=options)

        def take(rows, probe=probe):
            for train in (True, False):
                moved = features[rows] + (0 if train else 0.1)
                probe.update(moved, labels[rows], torch.tensor(rows), train=train)

        found[protocol] = probe, take
    return found


def measure(record_batches, sum_batches):
    """Values of every metric on these batches."""
    found = {}
    for name, (metric, columns) in records().items():
        for rows in record_batches:
            metric.update(*([column[i] for i in rows] for column in columns), ids=rows)
        values = metric.compute()
        found[name] = {word: (float(v), metric.facts(word)) for word, v in values.items()}
    for made, batches in ((sums(), sum_batches), (probes(), record_batches)):
        for name, (metric, take) in made.items():
            for rows in batches:
                take(rows)
            found[name] = {word: float(value) for word, value in metric.compute().items()}
    for protocol in ("remoteclip", "skyscript"):
        metric = Retrieval(protocol, block=8)
        values = feed(metric, world(11, images=N, coarse=True), record_batches)
        found[protocol] = values | metric.counts() | metric.chance()
    for protocol, words in (("coco", METRICS_HERE), ("earthdial", ("rouge_1", "rouge_l"))):
        ids = [i for rows in record_batches for i in rows]
        metric = filled(ids, protocol=protocol, size=4, metrics=words)
        values = {word: float(value) for word, value in metric.compute().items()}
        scores = {word: each.tolist() for word, each in metric.per_image.items()}
        found[protocol] = values, metric.facts(), metric.ids, scores
    told = KeptRecords()
    for rows in record_batches:
        told.update(rows, [{"text": SAYS[i], "box": [i, 1.5]} for i in rows])
    found["told"] = int(told.compute()), told.rows
    return found


def errors():
    """What several processes refuse, on each of them."""
    found = []
    nothing, unnamed = Captions(metrics=["bleu1"]), VQA()
    for act in (nothing.compute, lambda: unnamed.update(["a"], ["a"]), VQA().compute):
        try:
            act()
        except UserError as error:
            found.append(str(error))
    return found


def worker(rank, file, out):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method="file://" + file, rank=rank, world_size=2)
    try:
        found = {case: measure(SHARDS[case][rank], DISJOINT[case][rank]) for case in SHARDS}
        torch.save(found | {"errors": errors()}, f"{out}.{rank}")
    finally:
        dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_two_ranks_with_uneven_shards_equal_one_process(tmp_path):
    file, out = str(tmp_path / "meet"), str(tmp_path / "found")
    alone = measure(WHOLE, WHOLE)
    context = torch.multiprocessing.start_processes(
        worker, args=(file, out), nprocs=2, join=False, start_method=METHOD
    )
    deadline = time.monotonic() + 200
    while not context.join(timeout=5):
        if time.monotonic() > deadline:
            for process in context.processes:
                process.kill()
            pytest.fail("ranks wait for each other")
    assert len(alone) >= 23
    for rank in range(2):
        found = torch.load(f"{out}.{rank}", weights_only=True)
        for case in SHARDS:
            for name, expected in alone.items():
                if name == "selo":  # float64 sums in another order
                    expected = pytest.approx(expected, abs=1e-12)
                assert found[case][name] == expected, (case, name)
        nothing, unnamed, empty = found["errors"]
        assert (
            "no image with a caption" in nothing
            and "give ids" in unnamed
            and "nothing was given" in empty
        )


def test_all_families_are_in_it():
    """A class of records that is not measured above would go unnoticed."""

    def below(kind):
        return {kind, *(one for sub in kind.__subclasses__() for one in below(sub))}

    made = {type(metric) for metric, _ in records().values()}
    ours = {kind for kind in below(RecordMetric) if kind.__module__.startswith("rsvlm.metrics")}
    assert ours - made == {RecordMetric, Captions, KeptRecords}
