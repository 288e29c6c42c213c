"""Image-text models of transformers: parity with the plain call, labels, boxes, LoRA, bad input."""

from __future__ import annotations

import pytest
import torch
from model_options import build, hf_vlm

import rsvlm
from rsvlm import checkpoints
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Instance, Sample, Turn
from rsvlm.data.transforms import Augment, to_pil
from rsvlm.encoders.generation import Generated
from rsvlm.encoders.hf_vlm import ImageTextModel
from rsvlm.encoders.hf_vlm_sizes import IMAGE_TEXT_SIZES
from rsvlm.encoders.language import LanguageModel
from rsvlm.errors import UserError
from rsvlm.losses.language import AnswerLoss
from rsvlm.models.hf_vlm.model import HFVLM

CLOSE = {"atol": 1e-4, "rtol": 0.0}  # the project's bound for parity
QWEN2_VL = {
    **{k: v for k, v in IMAGE_TEXT_SIZES["tiny_qwen2_5_vl"].items() if k == "text_config"},
    "model_type": "qwen2_vl",
    "vision_config": {
        "depth": 2,
        "embed_dim": 64,
        "hidden_size": 64,
        "num_heads": 4,
        "mlp_ratio": 2,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    },
}
KINDS = {"qwen2_5_vl": "tiny_qwen2_5_vl", "qwen2_vl": QWEN2_VL, "llava": "tiny_llava"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Models as transformers saves them, by their architecture."""
    made = {}
    for kind, size in KINDS.items():
        torch.manual_seed(4)
        lm = ImageTextModel(size, words="world")
        made[kind] = str(tmp_path_factory.mktemp(kind))
        lm.model.save_pretrained(made[kind])
        lm.processor.save_pretrained(made[kind])
    return made


def picture(seed=0, high=56, wide=56):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, high, wide), generator=generator, dtype=torch.uint8)


def item(model, number, turns, sizes=((56, 56),), **more):
    sample = Sample(
        [picture(number + k, *size) for k, size in enumerate(sizes)],
        layout="single" if len(sizes) == 1 else "interleaved",
        turns=[Turn(*turn) for turn in turns],
        meta={"id": f"p{number}"},
        **more,
    )
    return TransformedDataset([sample], model.preprocess, training=False, caption="all")[0, 0]


def rows_of(model):
    """One question; two images in one; a second image in a later question."""
    return [
        item(model, 0, [("user", "how many houses ?", (0,)), ("assistant", "two")], [(50, 70)]),
        item(
            model,
            3,
            [
                ("user", "is there a road ?", (0, 1)),
                ("assistant", "yes"),
                ("user", "where ?"),
                ("assistant", "at the top"),
            ],
            [(90, 40), (64, 64)],
        ),
        item(
            model,
            7,
            [
                ("user", "a tank ?", (0,)),
                ("assistant", "no"),
                ("user", "and here ?", (1,)),
                ("assistant", "yes , one"),
            ],
            [(64, 48), (33, 77)],
        ),
    ]


def plain(folder):
    """transformers' own model and processor."""
    from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    processor.image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    return AutoModelForImageTextToText.from_pretrained(folder).eval(), processor


def written(processor, found, *, answer):
    """Prompt and images of an item by transformers' calls alone."""
    messages = [
        {
            "role": turn.role,
            "content": [
                *({"type": "image"} for _ in turn.image_ids),
                {"type": "text", "text": turn.text},
            ],
        }
        for turn in found.sample.turns
    ]
    messages = messages if answer else messages[:-1]
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=not answer)
    return text, [to_pil(image) for image in found.sample.images]


# Parity ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_logits_loss_and_greedy_text_are_those_of_the_plain_call(folders, kind):
    model = hf_vlm(lm={"weights": folders[kind], "tuning": "frozen"}).eval()
    theirs, processor = plain(folders[kind])
    rows = rows_of(model)
    batch = model.collate(training=True)(rows)
    texts, images = zip(*(written(processor, row, answer=True) for row in rows), strict=True)
    inputs = processor(
        text=list(texts), images=list(images), padding=True, padding_side="right",
        return_tensors="pt",
    )  # fmt: skip
    assert torch.equal(inputs["input_ids"], batch.input_ids)
    assert torch.equal(inputs["attention_mask"], batch.attention_mask)
    assert batch.inputs.keys() == inputs.keys() - {"input_ids", "attention_mask"}
    for name, value in batch.inputs.items():
        torch.testing.assert_close(value, inputs[name], **CLOSE)
    with torch.no_grad():
        expected = theirs(**inputs, labels=batch.labels)
        outputs = model(batch)
    where = batch.labels[:, 1:] != -100
    torch.testing.assert_close(outputs["logits"], expected.logits[:, :-1][where], **CLOSE)
    loss = AnswerLoss()(outputs, batch)["answer"]
    torch.testing.assert_close(loss, expected.loss, **CLOSE)

    answers = model.generate(model.collate(training=False)(rows), max_new_tokens=8)
    for row, answer in zip(rows, answers, strict=True):
        text, shown = written(processor, row, answer=False)
        asked = processor(text=[text], images=[shown], return_tensors="pt")
        with torch.no_grad():
            ids = theirs.generate(**asked, max_new_tokens=8, do_sample=False)
        new = ids[0, asked["input_ids"].shape[1] :]
        said = processor.tokenizer.decode(new, skip_special_tokens=True).strip()
        assert answer.text == said and said


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beams", [1, 3])
def test_a_batch_answers_as_its_rows_alone(folders, kind, beams):
    model = hf_vlm(lm={"weights": folders[kind], "tuning": "frozen"}).eval()
    collate, rows = model.collate(training=False), rows_of(model)
    options = {"max_new_tokens": 6, "num_beams": beams, "repetition_penalty": 1.3}
    together = model.generate(collate(rows), **options)
    for row, answer in zip(rows, together, strict=True):
        (alone,) = model.generate(collate([row]), **options)
        assert answer.text == alone.text
        # Measured: below 2e-6; padded rows are summed in another order.
        assert answer.score == pytest.approx(alone.score, abs=1e-4)
    several = model.generate(collate(rows), max_new_tokens=4, num_beams=3, num_return_sequences=3)
    assert [len(answer.candidates) for answer in several] == [3, 3, 3]


# What is learnt -------------------------------------------------------------------------------


def supervised(model, batch, row):
    kept = batch.labels[row] != -100
    assert torch.equal(batch.labels[row][kept], batch.input_ids[row][kept])
    return model.lm.tokenizer.decode(batch.labels[row][kept])


def test_the_loss_looks_at_answers_and_their_ends_alone(folders):
    model = hf_vlm(lm={"weights": folders["qwen2_5_vl"], "tuning": "frozen"})
    batch = model.collate(training=True)(rows_of(model))
    said = [supervised(model, batch, row) for row in range(3)]
    assert said == ["two</s>", "yes</s> at the top</s>", "no</s> yes , one</s>"]
    assert (model.collate(training=False)(rows_of(model)).labels == -100).all()
    assert batch.answers == ["two", "at the top", "yes , one"]


TEMPLATES = {
    # Qwen's: a mark behind each answer, and a line break that is not learnt.
    "chatml": "{% for m in messages %}<|im_start|>{{ m['role'] + '\n' }}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "</s>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    # llava-hf's: answers stay open, and the last one gets an end.
    "vicuna": "{% for m in messages %}{{ m['role'].upper() + ': ' }}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>\n{% else %}{{ c['text'] + ' ' }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}",
}
LEARNT = {"chatml": "no</s>yes , one</s>", "vicuna": "no yes , one</s>"}


@pytest.mark.parametrize("name", TEMPLATES)
def test_answers_are_found_in_other_templates(name):
    lm = ImageTextModel("tiny_llava", words="world")
    lm.processor.chat_template = TEMPLATES[name]
    model = HFVLM(lm)
    batch = model.collate(training=True)(rows_of(model))
    assert supervised(model, batch, 2).replace("  ", " ").strip() == LEARNT[name]
    assert supervised(model, batch, 0).strip() == "two</s>"
    asked = model.collate(training=False)(rows_of(model))
    for row in range(3):
        prompt = asked.input_ids[row][asked.attention_mask[row].bool()]
        assert torch.equal(prompt, batch.input_ids[row][: len(prompt)])


def test_history_goes_first_and_a_question_that_is_too_long_is_told():
    model = build("hf_vlm_tiny", chat={"max_length": 90})
    rows = rows_of(model)
    batch = model.collate(training=True)(rows[:1] + rows[2:])
    assert batch.truncated == 0 and len(batch) == 1
    assert "question alone has" in batch.skipped[0]
    turns = [("user", "a tank ?", (0,)), ("assistant", "no"), ("user", "and here ?"), rows[0]]
    turns = [*turns[:3], ("assistant", "yes")]
    model = build("hf_vlm_tiny", chat={"max_length": 60})
    batch = model.collate(training=True)([item(model, 1, turns)])
    assert batch.truncated == 1 and supervised(model, batch, 0) == "yes</s>"
    prompt = model.lm.tokenizer.decode(batch.input_ids[0])
    assert "tank" not in prompt and "here" in prompt and "<|image_pad|>" in prompt


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_exactly_what_is_trained(folders, kind):
    pytest.importorskip("peft")
    for tuning in ("lora", "full"):
        lm = {"weights": folders[kind], "tuning": tuning, "train_vision": False}
        lm |= {"lora": {"r": 4, "targets": ["q_proj", "v_proj"], "dropout": 0.5}}
        model = hf_vlm(lm=lm).train()
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        if tuning == "lora":
            assert len(trained) == 2 * 2 * 2 and all(".lora_" in name for name in trained)
            # CLIP's tower has layers of these names too.
            assert not any("vision" in name or "visual" in name for name in trained)
            assert not model.lm.model.training
            assert any(m.training for m in model.modules() if isinstance(m, torch.nn.Dropout))
        else:
            assert not any(".visual." in n or "vision_tower" in n for n in trained) and trained
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        batch = model.collate(training=True)(rows_of(model))
        for _ in range(2):  # LoRA's A moves once B has
            optimizer.zero_grad()
            AnswerLoss()(model(batch), batch)["answer"].backward()
            optimizer.step()
        reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
        assert reached == moved == trained


def test_a_tiny_one_learns_two_pictures_by_heart():
    torch.manual_seed(0)
    model = build("hf_vlm_tiny").train()
    rows = [
        item(model, 0, [("user", "what is it ?", (0,)), ("assistant", "a road")]),
        item(model, 9, [("user", "what is it ?", (0,)), ("assistant", "two tanks")]),
    ]
    batch = model.collate(training=True)(rows)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = AnswerLoss()(model(batch), batch)["answer"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    answers = model.generate(model.collate(training=False)(rows))
    assert [answer.text for answer in answers] == ["a road", "two tanks"]
    assert all(answer.finished for answer in answers)


# Boxes ----------------------------------------------------------------------------------------


BOX = (10.0, 20.0, 60.0, 44.0)


def referring(model, **view):
    sample = Sample(
        [picture(1, 100, 130)],
        turns=[
            Turn("user", "the tank", (0,), (5,), kind="refer"),
            Turn("assistant", "the tank", (), (5,), kind="refer"),
        ],
        instances=[Instance(5, "tank", 1, "the tank", BOX)],
        meta={"id": "boxed"},
    )
    options = {"training": False, "caption": "all", **view}
    transform = options.pop("transform", model.preprocess)
    return TransformedDataset([sample], transform, **options)[0, 0]


@pytest.mark.parametrize(
    ("kind", "answer", "step"),
    [
        # The processor makes it 56 x 72 of 100 x 130.
        ("qwen2_5_vl", '[{"bbox_2d": [6, 11, 33, 25]}]', 0.91),
        ("qwen2_vl", "<|box_start|>(77,200),(462,440)<|box_end|>", 0.13),
        # The middle 100 x 100.
        ("llava", "[0.00, 0.20, 0.45, 0.44]", 1.0),
    ],
)
def test_boxes_are_told_as_the_family_tells_them_and_come_back(folders, kind, answer, step):
    model = hf_vlm(lm={"weights": folders[kind], "tuning": "frozen"})
    found = referring(model)
    batch = model.collate(training=False)([found])
    assert batch.answers == [answer]
    ids = model.lm.tokenizer.encode(answer, add_special_tokens=False)
    model.lm.generate = lambda *args, **options: [[Generated(ids, -1.0, True, 2)]]
    (said,) = model.generate(batch)
    left = BOX[0] if kind != "llava" else 15.0  # cut off by the crop
    assert said.boxes == [pytest.approx((left, *BOX[1:]), abs=step)]
    assert batch.targets[0][0].box == BOX


def test_boxes_follow_an_augmented_picture_through_the_processor():
    model = build("hf_vlm_tiny")
    crop = Augment(72, scale=(0.9, 1.0), hflip=False)
    found = referring(model, transform=crop, training=True, seed=3)
    assert found.sample.images[0].shape == (3, 72, 72)
    batch = model.collate(training=True)([found])
    (geometry,) = batch.geometry[0]
    assert geometry.source == (100, 130) and geometry.size == (64, 64)  # of at most 64 tokens
    (box,) = model.codec.parse(batch.answers[0], geometry).boxes
    # A pixel of the 64 is up to two of the 130.
    assert box.box == pytest.approx(BOX, abs=2.1)
    grid = batch.inputs["image_grid_thw"][0].tolist()
    assert grid == [1, 64 // 4, 64 // 4]


@pytest.mark.parametrize("kind", KINDS)
def test_texts_alone_and_beside_pictures(folders, kind):
    model = hf_vlm(lm={"weights": folders[kind], "tuning": "frozen"}).eval()
    bare = item(model, 5, [("user", "how many ?", ()), ("assistant", "two")])
    rows = [*rows_of(model)[:1], bare]
    batch = model.collate(training=True)(rows)
    both = model(batch)["logits"]
    alone = model(model.collate(training=True)([bare]))["logits"]
    torch.testing.assert_close(both[-len(alone) :], alone, **CLOSE)
    together = model.generate(model.collate(training=False)(rows), max_new_tokens=4)
    (single,) = model.generate(model.collate(training=False)([bare]), max_new_tokens=4)
    assert together[1].text == single.text and not single.boxes


# Use ------------------------------------------------------------------------------------------


def test_it_is_asked_through_predict_with_history(folders):
    model = hf_vlm(lm={"weights": folders["llava"], "tuning": "frozen"}).eval()
    first = rsvlm.predict(model, to_pil(picture(0, 60, 80)), "how many houses ?")
    assert first.text == rsvlm.predict(model, to_pil(picture(0, 60, 80)), "how many houses ?").text
    history = [Turn("user", "how many houses ?", (0,)), Turn("assistant", first.text)]
    assert rsvlm.predict(model, to_pil(picture(0, 60, 80)), "where ?", history).score is not None
    with pytest.raises(UserError, match="question is empty"):
        rsvlm.predict(model, to_pil(picture(0)), " ")
    with pytest.raises(UserError, match=r"<image>"):
        rsvlm.predict(model, to_pil(picture(0)), "what is <image> ?")


def test_a_checkpoint_holds_lora_alone_and_its_base_comes_from_its_folder(folders, tmp_path):
    pytest.importorskip("peft")
    options = {"weights": folders["qwen2_5_vl"], "tuning": "lora", "lora": {"r": 4}}
    model = hf_vlm(lm=options)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    packed = checkpoints.pack(model, {}, {"lm": folders["qwen2_5_vl"]})
    assert packed["state_dict"] and all(".lora_" in name for name in packed["state_dict"])
    torch.save(packed, tmp_path / "last.ckpt")
    again = hf_vlm(lm=options)
    checkpoints.load(again, tmp_path / "last.ckpt", towers=["lm"])
    batch = model.collate(training=True)(rows_of(model))
    torch.testing.assert_close(
        again.eval()(batch)["logits"], model.eval()(batch)["logits"], **CLOSE
    )
    other = hf_vlm(lm={"size": "tiny_qwen2_5_vl", "words": "world", "lora": {"r": 4}})
    with pytest.raises(UserError, match=r"was trained with the weights .* in lm"):
        checkpoints.load(other, tmp_path / "last.ckpt", towers=["lm"])


def test_full_sizes():
    # What Qwen/Qwen2.5-VL-3B-Instruct and -7B-Instruct are remembered to hold; not looked up.
    for option, count in (("qwen2_5_vl_3b", 3_754_622_976), ("qwen2_5_vl_7b", 8_292_166_656)):
        model = build(option, device="meta")
        own = [p for n, p in model.named_parameters() if ".lora_" not in n]
        assert sum(p.numel() for p in own) == count
        assert all(p.is_meta for p in model.parameters())


def test_bad_input_says_what_to_do(folders, tmp_path):
    text = LanguageModel("tiny", words=["a"])
    text.model.save_pretrained(tmp_path / "text")
    text.tokenizer.save_pretrained(tmp_path / "text")
    with pytest.raises(UserError, match="no image-text model that transformers can read"):
        hf_vlm(lm={"weights": tmp_path / "text"})
    with pytest.raises(UserError, match="which takes no images"):
        hf_vlm(lm={"size": "tiny_llava", "processor": tmp_path / "text"}).collate(training=True)
    with pytest.raises(UserError, match=r"there is no image-text model 'tiny_lava'.*tiny_llava"):
        hf_vlm(lm={"size": "tiny_lava"})
    with pytest.raises(UserError, match=r"is a llava, the recipe's model a qwen2_5_vl"):
        hf_vlm(lm={"size": "qwen2_5_vl_3b", "weights": folders["llava"]})
    with pytest.raises(UserError, match=r"no processor.*model\.lm\.weights="):
        hf_vlm(lm={"size": "tiny_llava"}).collate(training=True)
    with pytest.raises(UserError, match="leave pixels out"):
        hf_vlm(lm={"weights": folders["llava"], "pixels": (1, 2)}).collate(training=True)
    with pytest.raises(UserError, match=r"tuning=full and model\.lm\.tuning=lora differ"):
        hf_vlm(lm={"size": "tiny_llava"}, tuning="full")
    with pytest.raises(UserError, match=r"model\.lm\.tuning: 'lorra'.*lora"):
        hf_vlm(lm={"size": "tiny_llava", "tuning": "lorra"})
    with pytest.raises(UserError, match=r"targets=\['nothing'\]"):
        hf_vlm(lm={"size": "tiny_llava", "lora": {"targets": ["nothing"]}})
    with pytest.raises(UserError, match=r"model\.lm\.weights=.*without ckpt= and init="):
        checkpoints.load(hf_vlm(lm={"weights": folders["llava"]}), folders["llava"])
    with pytest.raises(UserError, match=r"no box convention 'qwen'.*Did you mean"):
        hf_vlm(lm={"size": "tiny_llava"}, boxes="qwen")
    model = hf_vlm(lm={"size": "tiny_llava", "words": "world"})
    model.lm.processor.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        model.collate(training=True)
    model.lm.processor.chat_template = "{{ messages[0]['role'] }}"
    with pytest.raises(UserError, match="no place for an image"):
        model.collate(training=True)


def test_pixels_bound_the_size_of_an_image(folders):
    small = hf_vlm(lm={"weights": folders["qwen2_5_vl"], "pixels": (256, 1024)})
    large = hf_vlm(lm={"weights": folders["qwen2_5_vl"]})
    row = rows_of(large)[:1]
    few, many = (m.collate(training=True)(row).input_ids.shape[1] for m in (small, large))
    assert few < many
    (geometry,) = small.collate(training=True)(row).geometry[0]
    assert geometry.size[0] * geometry.size[1] <= 1024
