"""Models with masks and with experts in shards: two gloo ranks of which one has nothing to draw.

Run as a program, this file is one rank.
"""

import sys
from pathlib import Path

import pytest
import torch
from rank_runs import two_ranks

# Samples and models are those of tests/models, here and in the ranks.
sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "models")]
ROWS = {"geopix_tiny": ([0, 1], [2]), "lisa_tiny": ([0, 1], [2]), "rsmoe_tiny": ([0, 1], [2])}


def made(name):
    """A model, its batches of some samples, and its loss."""
    from model_options import build

    torch.manual_seed(0)
    if name == "rsmoe_tiny":
        from test_rsmoe import batch, samples

        from rsvlm.losses.language import AnswerLoss

        model = build(name, stage="second")
        with torch.no_grad():
            for word, parameter in model.experts.named_parameters():
                if word.endswith(".up"):
                    parameter.normal_(std=0.3)
        given = samples()

        def part(rows, training):
            return batch(model, training, [given[i] for i in rows])

        return model, part, AnswerLoss()
    from test_pixel_models import batch_of, dialogue, sample

    from rsvlm.data.sample import Sample
    from rsvlm.losses.mask import AnswerAndMasksLoss

    options = {"sam": {"chunk": 1}} if name == "lisa_tiny" else {}
    model = build(name, instructions=None, **options)
    given = [
        Sample(sample(i).images, instances=sample(i).instances, turns=turns, meta={"id": i})
        for i, turns in enumerate(
            [dialogue("[SEG] and [SEG]", (0, 1)), dialogue("[SEG]", (1,)), dialogue("none", ())]
        )
    ]

    def part(rows, training):
        return batch_of(model, [given[i] for i in rows], training=training)

    return model, part, AnswerAndMasksLoss()


def answers(model, batch):
    """Answers in the true words, so that one rank has masks and the other has none."""
    if not hasattr(model, "seg_ids"):
        return [answer.text for answer in model.generate(batch, max_new_tokens=6, rows=3)]
    from test_pixel_models import true_words

    with true_words(model, batch):
        found = model.generate(batch, max_new_tokens=40)
    return [[int(mask.sum()) for mask in answer.masks] for answer in found]


def learn(model, batch, loss):
    """A step; the losses, this process' part of them, and the names of what is trained."""
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    found = loss(model(batch), batch)
    sum(found.values()).backward()
    optimizer.step()
    return {word: float(value.detach()) for word, value in found.items()}, names


def rank(out):
    """One of two ranks."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    from rsvlm.lit.fsdp import shard

    dist.init_process_group("gloo")
    found = {}
    for name, rows in ROWS.items():
        model, part, loss = made(name)
        mine = rows[dist.get_rank()]
        for module in model.modules():
            for idle in getattr(module, "idle", ()):
                module.get_parameter(idle).requires_grad_(False)
        shard(model.train(), init_device_mesh("cpu", (2,)))
        losses, names = learn(model.train(), part(mine, True), loss)
        texts = answers(model, part(mine, False))
        state = model.state_dict()
        whole = {n: t.full_tensor() if hasattr(t, "full_tensor") else t for n, t in state.items()}
        found[name] = (texts, losses, {n: whole[n] for n in names})
    torch.save(found, Path(out) / f"{dist.get_rank()}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    with two_ranks(__file__, folder):
        pass
    return [torch.load(folder / f"{i}.pt", weights_only=True) for i in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_shards_draw_and_learn_as_one_process(ranks, name):
    model, part, loss = made(name)
    every = [row for rows in ROWS[name] for row in rows]
    losses, names = learn(model.train(), part(every, True), loss)
    texts = answers(model, part(every, False))
    (one, ours, state), (other, theirs, _) = (found[name] for found in ranks)
    assert [*one, *other] == texts
    for word, value in losses.items():
        assert (ours[word] + theirs[word]) / 2 == pytest.approx(value, abs=1e-5), word
    now, before = model.state_dict(), made(name)[0].state_dict()
    assert any(not torch.equal(now[word], before[word]) for word in state)
    for word in names:
        if word in state:
            torch.testing.assert_close(state[word], now[word], rtol=0, atol=2e-5)


if __name__ == "__main__":
    rank(sys.argv[1])
