"""Captions from a grid of frozen features, without [RET]."""

import torch
from model_options import build

from rsvlm.data.item import TransformedSample
from rsvlm.data.sample import Sample
from rsvlm.encoders.tokenizers import words_of
from rsvlm.losses.language import AnswerLoss

CAPTIONS = ["two red roofs", "a long river", "many boats in a port"]


def item(number):
    draws = torch.Generator().manual_seed(number)
    image = torch.randint(0, 256, (3, 32, 32), generator=draws, dtype=torch.uint8)
    sample = Sample([image], "single", [CAPTIONS[number]], meta={"id": str(number)})
    return TransformedSample(number, sample, key=(0, 0, number))


def test_it_learns_captions_of_its_pictures_alone(tmp_path):
    torch.manual_seed(0)
    model = build(
        "rscapret_grid",
        vision={"image_size": 32, "grid": 2, "levels": [3]},
        bridge={"hidden": 16},
        lm={"words": words_of(CAPTIONS)},
        cache_gib=0.1,
        cache_folder=str(tmp_path),
    )
    trained = {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"bridge", "lm"}
    batch = model.collate(training=True)([item(n) for n in range(3)])
    loss = AnswerLoss()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    model.train()
    for _ in range(40):
        outputs = model(batch)
        assert set(outputs) == {"logits", "targets"}
        optimizer.zero_grad()
        sum(loss(outputs, batch).values()).backward()
        optimizer.step()
        model.after_step()
    asked = model.collate(training=False)([item(n) for n in range(3)])
    assert asked.input_ids.eq(-1).sum(1).tolist() == [5, 5, 5]
    assert [answer.text for answer in model.generate(asked)] == CAPTIONS
    assert model.cache.misses == 3
