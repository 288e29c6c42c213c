"""Models of images and words in shards on two gloo ranks learn and write as one process does.

Run as a program, this file is one rank.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rank_runs import two_ranks

MODELS = ("llava_tiny", "skyeyegpt_tiny")
STEPS = 2


def made(name):
    """A model whose answers end at different places, and its optimizer."""
    from model_options import build

    torch.manual_seed(0)
    lora = {"dropout": 0.0, "targets": ["q_proj", "v_proj"]}
    lm = {"size": "tiny", "words": "world", "tuning": "lora", "lora": lora}
    model = build(name, tuning="lora", lm=lm, packing="shared").train()
    for parameter in model.bridge.parameters():
        parameter.data *= 3
    return model


def batch(model, rows, left=False):
    """Dialogues of several lengths; the first two show one image."""
    draws = torch.Generator().manual_seed(1)
    size, places = model.image_size, model.image_tokens
    images = torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8, generator=draws)
    shown, lengths = [(0,), (0,), (1,), (2,)], [5, 9, 7, 12]
    width = places + max(lengths)
    ids = torch.zeros(4, width, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for i, length in enumerate(lengths):
        text = torch.randint(5, 90, (length,), generator=draws)
        row = torch.cat([torch.tensor([1, 3]), torch.full((places,), model.image_token_id), text])
        row = row[: places + length]
        span = slice(width - len(row), width) if left else slice(0, len(row))
        ids[i, span], mask[i, span] = row, 1
        labels[i, span] = torch.where(torch.arange(len(row)) > places + 3, row, -100)
    return SimpleNamespace(
        images=images,
        image_rows=[shown[i] for i in rows],
        input_ids=ids[rows],
        attention_mask=mask[rows],
        labels=labels[rows],
        geometry=[()] * len(rows),
    )


def learn(model, rows):
    """Some steps; the loss of each, this process' part of it."""
    from rsvlm.losses.language import AnswerLoss

    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    losses = []
    for _ in range(STEPS):
        data = batch(model, rows)
        loss = AnswerLoss()(model(data), data)["answer"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def write(model, rows):
    """Answers of a few tokens, in portions of one or two."""
    answers = model.generate(batch(model, rows, left=True), max_new_tokens=8, rows=2)
    return [(answer.text, answer.score) for answer in answers]


def rank(out):
    """One of two ranks: three dialogues here, one there."""
    from torch.distributed import all_reduce, destroy_process_group, get_rank, init_process_group
    from torch.distributed.device_mesh import init_device_mesh

    from rsvlm.lit.fsdp import shard

    init_process_group("gloo")
    rows = [0, 1, 2] if get_rank() == 0 else [3]
    found = {}
    for name in MODELS:
        model = made(name)
        for part in model.modules():
            for idle in getattr(part, "idle", ()):
                part.get_parameter(idle).requires_grad_(False)
        shard(model, init_device_mesh("cpu", (2,)))
        blocks = model.lm.model.model.layers
        assert all(hasattr(block, "unshard") for block in blocks)
        losses = torch.tensor(learn(model, rows))
        all_reduce(losses)
        texts = write(model, rows)
        whole = {n: p.full_tensor() for n, p in model.state_dict().items() if "lora" in n}
        found[name] = ((losses / 2).tolist(), texts, whole)
    torch.save(found, Path(out) / f"{get_rank()}.pt")
    destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    with two_ranks(__file__, folder):
        pass
    return [torch.load(folder / f"{i}.pt", weights_only=True) for i in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_shards_learn_and_write_as_one_process(ranks, name):
    model = made(name)
    losses = learn(model, [0, 1, 2, 3])
    texts = write(model, [0, 1, 2, 3])
    assert len({len(text) for text, _ in texts}) > 1  # one rank is done before the other
    first, second = ranks[0][name], ranks[1][name]
    # Measured: 1e-6; ranks add the same products in another order.
    assert first[0] == pytest.approx(losses, abs=1e-5) == second[0]
    told = first[1] + second[1]
    assert [text for text, _ in told] == [text for text, _ in texts]
    assert [score for _, score in told] == pytest.approx([score for _, score in texts], abs=1e-4)
    moved = 0
    for word, tensor in model.state_dict().items():
        if "lora" in word:
            torch.testing.assert_close(first[2][word], tensor, rtol=0, atol=1e-5)
            moved += int(tensor.abs().sum() > 0)
    assert moved == len(first[2]) > 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest does: model_options
    rank(sys.argv[1])
