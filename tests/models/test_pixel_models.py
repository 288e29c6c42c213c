"""The pixel family: masks batched and alone, generated and forced, memory, classes, bad input."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from model_options import build

from rsvlm import checkpoints
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Instance, Sample, Turn
from rsvlm.data.text.segment_templates import SegmentTemplates
from rsvlm.errors import UserError
from rsvlm.inference.ask import ask
from rsvlm.losses.mask import AnswerAndMasksLoss
from rsvlm.models.pixel.classes import ClassNames
from rsvlm.models.pixel.placing import UNSEEN, as_stored, coarse
from rsvlm.models.pixel.runs import whole_runs
from rsvlm.models.pixel.teacher_forcing import teacher_forced
from rsvlm.nn.class_memory import ClassMemory
from rsvlm.nn.mask_predictor import MaskPredictor

FAMILY = ("geopix_tiny", "lisa_tiny", "pixellm_tiny")
SEGMENT = {"tasks": ["segment"]}


def tiny(option, seed=0, **options):
    torch.manual_seed(seed)
    return build(option, **{"instructions": SEGMENT, **options})


def sample(number=0, objects=2, size=(40, 60), say="tank"):
    """A picture with some rectangles, each an object with a mask and a phrase."""
    rng = np.random.default_rng(number)
    image = torch.from_numpy(rng.integers(0, 255, (3, *size), dtype=np.uint8))
    instances = []
    for i in range(objects):
        mask = np.zeros(size, bool)
        mask[5 * i : 5 * i + 9, 3 + 7 * i : 20 + 7 * i] = True
        instances.append(
            Instance(
                i,
                say,
                phrase=f"the {say} number {i}",
                mask=mask,
                box=(3 + 7 * i, 5 * i, 20 + 7 * i, 5 * i + 9),
            )
        )
    return Sample([image], instances=instances, meta={"id": number, "dataset": "x"})


def batch_of(model, samples, training=True, **options):
    view = TransformedDataset(samples, model.preprocess, training=False, caption="all")
    return model.collate(training=training, **options)([view[(0, i)] for i in range(len(samples))])


@contextmanager
def true_words(model, batch):
    """The model is made to write the true answers, a token a step, with its cache."""
    import rsvlm.models.pixel.model as module

    wanted = [[*ids, model.tokenizer.eos_token_id] for ids in batch.answer_ids]

    def only(ids, scores):
        scores = torch.full_like(scores, -50.0)
        for i, row in enumerate(wanted):
            scores[i, row[min(ids.shape[1], len(row) - 1)]] = 0.0
        return scores

    real = module.generate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "generate", lambda *a, **k: real(*a, **{**k, "processors": [only]}))
        yield


def dialogue(answer, ids, image=True):
    shown = (0,) if image else ()
    return [Turn("user", "where ?", shown), Turn("assistant", answer, (), ids)]


@pytest.mark.parametrize("option", FAMILY)
def test_all_that_is_trained_learns_from_answers_and_masks(option):
    model = tiny(option, chat={"which": "all"}).train()
    batch = batch_of(model, [sample(0, 2), sample(1, 1)])
    losses = AnswerAndMasksLoss()(model(batch), batch)
    assert set(losses) == {"answer", "mask_bce", "mask_dice"}
    sum(losses.values()).backward()
    idle = {f"vision.{name}" for name in model.vision.idle}
    still = {
        name
        for name, p in model.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.any())
    }
    assert still <= idle


@pytest.mark.parametrize("option", FAMILY)
def test_generation_and_teacher_forcing_draw_the_same_masks(option):
    model = tiny(option).eval()
    several = Sample(
        sample(3).images,
        instances=sample(3).instances,
        turns=dialogue("[SEG] and [SEG]", (0, 1)),
        meta={"id": 3},
    )
    nothing = Sample(sample(4).images, turns=dialogue("there is none", ()), meta={"id": 4})
    model._instructions = None
    batch = batch_of(model, [several, nothing, several], training=False)
    forced = teacher_forced(model, batch)
    assert [len(answer.masks) for answer in forced] == [2, 0, 2]
    with true_words(model, batch):
        written = model.generate(batch, max_new_tokens=40)
    for one, other in zip(written, forced, strict=True):
        assert one.text == other.text
        assert len(one.masks) == len(other.masks)
        for mine, theirs in zip(one.masks, other.masks, strict=True):
            assert mine.shape == (40, 60)
            assert (mine != theirs).mean() < 0.002
        assert one.mask_scores == pytest.approx(other.mask_scores, abs=1e-4)


@pytest.mark.parametrize("packing", ["rows", "shared"])
def test_packed_rows_give_the_same_masks_in_the_same_places(packing):
    plain = tiny("geopix_tiny", chat={"which": "all"}).eval()
    packed = tiny("geopix_tiny", chat={"which": "all"}, packing=packing).eval()
    packed.load_state_dict(plain.state_dict())
    batch = batch_of(plain, [sample(0, 3), sample(1, 1), sample(2, 2)])
    with torch.no_grad():
        one, other = plain(batch), packed(batch)
    for a, b, masks in zip(one["mask_logits"], other["mask_logits"], batch.masks, strict=True):
        assert len(a) == len(b) == len(masks)
        torch.testing.assert_close(a, b, atol=2e-4, rtol=0)


def test_a_batch_of_images_with_any_number_of_objects_is_one_by_one():
    torch.manual_seed(0)
    memory = ClassMemory(3, 32, length=2, memory_dim=16, grid=4, hidden=32, norm="layer")
    from rsvlm.nn.mask_decoder import MaskDecoder

    decoder = MaskDecoder(32, heads=2, mlp_dim=32, score_hidden=32)
    masks = MaskPredictor(
        24, dim=32, grid=4, image_size=32, canvas=16, memory=memory, decoder=decoder, chunk=3
    ).eval()
    maps = [torch.randn(4, 32, 4, 4) for _ in range(2)]
    rows, classes = torch.tensor([0, 0, 0, 2, 3]), torch.tensor([0, 1, 2, 1, 0])
    prompts = masks.prompts(torch.randn(5, 6, 24))
    with torch.no_grad():
        together = masks(maps, prompts, rows, classes).logits
        alone = [
            masks(
                [m[r : r + 1] for m in maps],
                prompts[i : i + 1],
                torch.zeros(1).long(),
                classes[i : i + 1],
            ).logits
            for i, r in enumerate(rows)
        ]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)
    none = masks(maps, prompts[:0], rows[:0], classes[:0])
    assert none.logits.shape == (0, 16, 16)


@pytest.mark.parametrize("variant", ["released", "paper"])
def test_memory_learns_in_paper_and_only_scale_and_norm_do_in_released(variant):
    torch.manual_seed(0)
    memory = ClassMemory(3, 32, length=8, memory_dim=16, grid=4, hidden=32, variant=variant)
    images, masks = torch.randn(3, 32, 4, 4), torch.randn(3, 1, 16, 16)
    total = sum(memory(images, masks, torch.tensor([0, 1, 2]), level) for level in range(2))
    (total * torch.randn_like(total)).sum().backward()
    moved = {n for n, p in memory.named_parameters() if p.grad is not None and bool(p.grad.any())}
    every = {n for n, _ in memory.named_parameters()}
    assert moved == (every if variant == "paper" else {"layer.scale", "norm.weight", "norm.bias"})
    # The class has an effect in `paper`, and none as released.
    with torch.no_grad():
        one, other = (memory(images, masks, torch.full((3,), c), 0) for c in (0, 1))
    assert torch.equal(one, other) == (variant == "released")


def test_no_object_in_a_whole_batch_leaves_a_gradient_everywhere():
    model = tiny("geopix_tiny").train()
    model._instructions = None
    texts = [Sample(sample(i).images, turns=dialogue("no", ()), meta={"id": i}) for i in range(2)]
    batch = batch_of(model, texts)
    assert all(not len(masks) for masks in batch.masks)
    losses = AnswerAndMasksLoss()(model(batch), batch)
    assert float(losses["mask_bce"]) == float(losses["mask_dice"]) == 0
    sum(losses.values()).backward()
    idle = {f"vision.{name}" for name in model.vision.idle}
    missing = {n for n, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert missing <= idle


def test_runs_are_found_whole_and_broken_ones_counted():
    assert whole_runs([9, 1, 2, 3, 9, 1, 2, 3], (1, 2, 3)) == ([[1, 2, 3], [5, 6, 7]], 0)
    assert whole_runs([1, 9, 2, 9, 3], (1, 2, 3)) == ([[0, 2, 4]], 0)
    assert whole_runs([1, 2, 1, 2, 3, 3, 1], (1, 2, 3)) == ([[2, 3, 4]], 3)
    # What is left of one object is one broken run, however many of its tokens there are.
    assert whole_runs([3, 4, 5, 6, 9], (1, 2, 3, 4, 5, 6)) == ([], 1)
    assert whole_runs([1, 2, 4, 5, 6, 1, 2, 3, 4, 5, 6], (1, 2, 3, 4, 5, 6))[1] == 1


def test_a_broken_run_has_no_mask_and_is_told():
    model = tiny("geopix_tiny").eval()
    batch = batch_of(model, [sample(0, 1)], training=False)
    first = model.seg_ids
    batch = dataclasses.replace(batch, answer_ids=[[*first[:4], *first]])
    (answer,) = teacher_forced(model, batch)
    assert len(answer.masks) == 1
    assert "1 object(s) of the answer lack some [SEG] tokens" in answer.notes[0]


def test_the_class_of_an_object_comes_from_user_text_or_fallback():
    names = ClassNames(["track", "ground track field", "storage-tank", "other"])
    assert names.choose("the ground track field and two storage tanks", 2) == [
        (1, "text"),
        (2, "text"),
    ]
    assert names.choose("something red", 2) == [(3, "fallback")] * 2
    assert names.choose("a track", 2, ["Storage tank"]) == [(2, "user")] * 2
    with pytest.raises(
        UserError, match=r"no class 'trak'\. Did you mean track.*memory\.variant=none"
    ):
        names.index("trak")
    with pytest.raises(UserError, match="2 classes were given for an answer of 3 objects"):
        names.choose("", 3, ["track", "other"])


def test_an_unknown_class_is_told_in_training_and_where_the_user_gives_it():
    model = tiny("geopix_tiny").train()
    batch = batch_of(model, [sample(0, 1, say="tanker")])
    with pytest.raises(UserError, match=r"no class 'tanker'\. Did you mean tank"):
        model(batch)
    with pytest.raises(UserError, match="no class 'tonk'"):
        model.generate(batch_of(model, [sample(0, 1)], training=False), classes=["tonk"])
    said = tiny("geopix_tiny", generation={"classes": ["tonk"], "max_new_tokens": 2})
    with pytest.raises(UserError, match="no class 'tonk'"):
        said.generate(batch_of(said, [sample(0, 1)], training=False))
    with pytest.raises(UserError, match="no class memory and reads none"):
        none = tiny("lisa_tiny")
        none.generate(batch_of(none, [sample(0, 1)], training=False), classes=["tank"])


def test_two_images_are_too_many():
    model = tiny("lisa_tiny").eval()
    picture = sample(0).images[0]
    with pytest.raises(UserError, match=r"shows 2 images, and a LISA draws masks in one"):
        ask(model, [picture, 255 - picture], "where is the tank ?")


def test_a_mask_of_another_size_than_its_image_is_told():
    model = tiny("geopix_tiny")
    wrong = sample(0, 1)
    wrong.instances[0].mask = np.ones((10, 10), bool)
    with pytest.raises(UserError, match="a map or mask of 10 x 10 lies over an image of 40 x 60"):
        batch_of(model, [wrong])


def test_a_large_image_says_how_it_is_scaled_and_what_that_loses():
    model = tiny("geopix_tiny").eval()
    batch = batch_of(model, [sample(0, 1, size=(200, 2000))], training=False)
    (answer,) = teacher_forced(model, batch)
    assert answer.masks[0].shape == (200, 2000)
    assert "the image of 2000 x 200 px was scaled to 64 px" in answer.notes[0]
    assert "one step of theirs is 62 px" in answer.notes[0]
    (note,) = coarse((20_000, 20_000), 448, 128)
    assert "20000 x 20000 px was scaled to 448 px" in note and "is 156 px of the image" in note


def test_a_checkpoint_whose_seg_ids_differ_is_told(scratch):
    model = tiny("pixellm_tiny")
    model.tokenizer  # noqa: B018  (the ids are known from here on)
    torch.save(checkpoints.pack(model), scratch / "last.ckpt")
    other = tiny("pixellm_tiny", first_id=model.first_id + 3)
    with pytest.raises(UserError, match=rf"trained with \[SEG0\] at id {model.first_id}"):
        checkpoints.load(other, scratch / "last.ckpt")
    assert checkpoints.load(tiny("pixellm_tiny"), scratch / "last.ckpt").loaded
    with pytest.raises(UserError, match="first_id=7 is the word"):
        tiny("pixellm_tiny", first_id=7).tokenizer  # noqa: B018


def test_masks_are_placed_where_the_image_was_cut_padded_or_turned():
    from rsvlm.data.geometry import identity

    canvas = torch.full((1, 8, 8), -1.0)
    canvas[0, :4, :4] = 1.0
    whole = as_stored(canvas, identity(16, 32).resize(8, 8))
    assert whole.shape == (1, 16, 32) and (whole > 0)[0, :7, :14].all()
    assert not (whole > 0)[0, 9:].any() and not (whole > 0)[0, :, 18:].any()
    flipped = as_stored(canvas, identity(8, 8).hflip())
    assert (flipped > 0)[0, :4, 4:].all()
    assert not (flipped > 0)[0, :, :4].any()
    cut = as_stored(canvas, identity(8, 16).crop(0, 4, 8, 8))
    assert (cut > 0)[0, :4, 4:8].all() and (cut[0, :, :4] == UNSEEN).all()


def test_questions_for_several_objects_and_for_what_is_not_there():
    model = tiny(
        "geopix_tiny",
        instructions={
            "tasks": [],
            "several": 2,
            "absent": 1.0,
            "absent_classes": ["vehicle", "tank"],
        },
        chat={"which": "all"},
    )
    batch = batch_of(model, [sample(0, 2)])
    assert [len(masks) for masks in batch.masks] == [2, 0]
    assert batch.answers[1] == "There is no vehicle in the image."
    assert "the tank number 0 and the tank number 1" in batch.prompts[0]
    assert torch.equal(batch.masks[0].sum((1, 2)) > 0, torch.tensor([True, True]))
    with pytest.raises(UserError, match="name the classes that may be asked for"):
        SegmentTemplates("geopix", absent=0.5)


def test_training_may_draw_a_question_of_a_picture_and_measuring_asks_all():
    model = tiny("geopix_tiny", chat={"which": 1})
    counts = [len(batch_of(model, [sample(0, 3)], training=on).masks) for on in (True, False)]
    assert counts == [1, 3]


def test_a_weight_of_the_tokens_carries_the_phrase_to_the_mask():
    masks, states = {}, torch.randn(2, 6, 64, generator=torch.Generator().manual_seed(0))
    image = torch.randn(1, 64, 8, 8, generator=torch.Generator().manual_seed(1))
    for weight in (None, 4):  # a whole number, as users type it
        predictor = tiny(
            "geopix_tiny", masks={"token_weight": weight}, memory=None, classes=[]
        ).masks
        found = predictor([image, image], predictor.prompts(states), torch.zeros(2).long())
        masks[weight] = found.logits.detach()
    apart = {weight: float(m.std(0).mean() / m.std()) for weight, m in masks.items()}
    assert apart[4] > 4 * apart[None]
    one, heavier = (tiny("lisa_tiny", masks={"token_weight": w}).masks for w in (None, 8))
    torch.testing.assert_close(heavier.prompts(states[:, :1]), 8 * one.prompts(states[:, :1]))
    assert heavier.state_dict().keys() == one.state_dict().keys()


def test_a_user_gets_masks_at_the_size_of_the_picture():
    model = tiny("lisa_tiny").eval()
    picture = sample(0).images[0]
    answer = ask(model, [picture], "where is the tank ?")
    assert isinstance(answer.text, str)
    assert all(mask.shape == (40, 60) for mask in answer.masks)
    assert len(answer.mask_scores) == len(answer.masks)


def test_a_checkpoint_of_another_memory_says_which(scratch):
    plain = {"variant": "none", "classes": 4}
    torch.save(checkpoints.pack(tiny("geopix_tiny")), scratch / "paper.ckpt")
    with pytest.raises(UserError, match=r"with a class memory: say model\.memory\.variant=paper"):
        checkpoints.load(tiny("geopix_tiny", memory=plain), scratch / "paper.ckpt")
    with pytest.raises(UserError, match=r"another size: say .*model\.memory\.length=4"):
        checkpoints.load(tiny("geopix_tiny", memory={"length": 2}), scratch / "paper.ckpt")


def test_sam_sees_all_of_a_picture_that_was_cut_out_of_a_larger_one():
    from rsvlm.data.geometry import identity
    from rsvlm.models.lisa.model import covered

    padded = tiny("lisa_tiny").preprocess.geometry(40, 60)
    assert covered(padded) == (43, 64)
    cut = identity(40, 60).crop(3, 9, 30, 30).resize(64, 64)
    assert covered(cut) == covered(cut.hflip()) == (64, 64)


def test_parts_that_do_not_fit_are_told():
    with pytest.raises(UserError, match="must be multiples of 4, and dim of heads=5"):
        tiny("geopix_tiny", memory={"memory_dim": 6, "heads": 5})
    with pytest.raises(UserError, match=r"model\.memory\.dim=32 and model\.masks\.dim=64"):
        tiny("geopix_tiny", memory={"dim": 32})
    with pytest.raises(UserError, match="the memory has 1 levels and the predictor 2"):
        MaskPredictor(8, memory=ClassMemory(2, 256, levels=1, length=1, memory_dim=8, grid=2))
    with pytest.raises(UserError, match=r"model\.memory\.variant='papre'.*paper"):
        ClassMemory(variant="papre")
    with pytest.raises(UserError, match=r"model\.classes names 2 classes and the memory has 4"):
        tiny("geopix_tiny", classes=["a", "b"])
    with pytest.raises(UserError, match=r"model\.vision\.also has 1 layers"):
        tiny("pixellm_tiny", vision={"also": [-1]})


@pytest.mark.parametrize("option", FAMILY)
def test_mixed_precision_gives_close_masks_and_finite_gradients(option):
    model = tiny(option).train()
    batch = batch_of(model, [sample(0, 2), sample(1, 1)])
    with torch.no_grad():
        exact = model(batch)["mask_logits"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(batch)
        total = sum(AnswerAndMasksLoss()(found, batch).values())
        places = model.masks.prompt_encoder.positions()
    total.backward()
    assert torch.equal(places, model.masks.prompt_encoder.positions())
    assert {logits.dtype for logits in found["mask_logits"]} == {torch.float32}
    for one, other in zip(found["mask_logits"], exact, strict=True):
        assert (one.float() - other).abs().mean() < 0.1 * other.abs().mean() + 0.02
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
