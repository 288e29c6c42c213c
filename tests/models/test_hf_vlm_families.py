"""Families with tiles or other boxes: parity with the plain call, boxes that come back."""

from __future__ import annotations

import json

import pytest
import torch
from model_options import hf_vlm

from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Instance, Sample, Turn
from rsvlm.data.text.box_codecs import codec
from rsvlm.data.transforms import to_pil
from rsvlm.encoders.tokenizers import word_tokenizer
from rsvlm.errors import UserError

CLOSE = {"atol": 1e-4, "rtol": 0.0}  # the project's bound for parity
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
    "initializer_range": 0.1,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 7,
}


def template(image):
    said = "{% for c in m['content'] %}"
    text = "{{ c['text'] }}"
    return (
        "{% for m in messages %}{% if m['role'] == 'assistant' %} "
        f"{said}{text}{{% endfor %}}</s>{{% else %}}"
        f"{said}{{% if c['type'] == 'image' %}}{image}{{% else %}}{text}{{% endif %}}{{% endfor %}}"
        "<|answer|>{% endif %}{% endfor %}"
    )


def marked(*marks):
    tokenizer = word_tokenizer(["how", "many", "houses", "is", "there", "two", "yes", "at", "top"])
    tokenizer.add_tokens(["<|answer|>", *marks], special_tokens=True)
    return tokenizer


def named(folder, tokenizer, names):
    """The tokenizer with marks that a processor asks it for by name."""
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text()) | {"extra_special_tokens": names}
    path.write_text(json.dumps(config))
    return AutoTokenizer.from_pretrained(folder)


def internvl(tf, folder):
    names = {"start_image_token": "<img>", "end_image_token": "</img>", "video_token": "<video>"}
    names["context_image_token"] = "<IMG_CONTEXT>"
    tokenizer = named(folder, marked(*names.values()), names)
    square = {"height": 28, "width": 28}
    images = tf.GotOcr2ImageProcessor(size=square, crop_to_patches=True, max_patches=4)
    processor = tf.InternVLProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        video_processor=tf.InternVLVideoProcessor(size=square),
        image_seq_length=4,
        chat_template=template("<IMG_CONTEXT>\n"),
    )
    return processor, {
        "text_config": {**TEXT, "model_type": "qwen2"},
        "vision_config": {**VISION, "image_size": [28, 28], "patch_size": [7, 7]},
        "image_token_id": tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        "image_seq_length": 4,
    }


def idefics3(tf, folder):
    rows = [f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)]
    marks = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>")
    tokenizer = marked(*marks, *rows)
    processor = tf.Idefics3Processor(
        image_processor=tf.Idefics3ImageProcessor(
            size={"longest_edge": 56}, max_image_size={"longest_edge": 28}
        ),
        tokenizer=tokenizer,
        image_seq_len=4,
        chat_template=template("<image>"),
    )
    return processor, {
        "text_config": {**TEXT, "model_type": "llama"},
        "vision_config": VISION,
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
        "scale_factor": 2,
        "pad_token_id": 0,
    }


def qwen3_vl(tf, folder):
    names = ("vision_start", "vision_end", "image_pad", "video_pad")
    tokenizer = marked(*(f"<|{name}|>" for name in names))
    ids = [tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in names]
    sizes = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
    processor = tf.Qwen3VLProcessor(
        image_processor=tf.Qwen2VLImageProcessor(
            **sizes, size={"shortest_edge": 256, "longest_edge": 2048}
        ),
        tokenizer=tokenizer,
        video_processor=tf.Qwen3VLVideoProcessor(**sizes),
        chat_template=template("<|vision_start|><|image_pad|><|vision_end|>"),
    )
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
    return processor, {
        "text_config": {**TEXT, "head_dim": 8, "rope_parameters": rope},
        "vision_config": {
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": 4,
            "out_hidden_size": 32,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        },
        "vision_start_token_id": ids[0],
        "vision_end_token_id": ids[1],
        "image_token_id": ids[2],
        "video_token_id": ids[3],
    }


def llava_next(tf, folder):
    tokenizer = marked("<image>")
    grids = [[28, 56], [56, 28], [56, 56]]
    processor = tf.LlavaNextProcessor(
        image_processor=tf.LlavaNextImageProcessor(
            size={"shortest_edge": 28},
            crop_size={"height": 28, "width": 28},
            image_grid_pinpoints=grids,
        ),
        tokenizer=tokenizer,
        patch_size=7,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template("<image>\n"),
    )
    return processor, {
        "text_config": {**TEXT, "model_type": "llama"},
        "vision_config": {**VISION, "model_type": "clip_vision_model", "projection_dim": 32},
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
        "image_grid_pinpoints": grids,
    }


def mllama(tf, folder):
    tokenizer = marked("<|image|>")
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    processor = tf.MllamaProcessor(
        image_processor=tf.MllamaImageProcessor(
            size={"height": 28, "width": 28}, max_image_tiles=4
        ),
        tokenizer=tokenizer,
        chat_template="<s>" + template("<|image|>"),
    )
    return processor, {
        "text_config": {**TEXT, "cross_attention_layers": [1]},
        "vision_config": {
            **{k: v for k, v in VISION.items() if k != "num_attention_heads"},
            "attention_heads": 4,
            "num_global_layers": 1,
            "intermediate_layers_indices": [0],
            "vision_output_dim": 64,
        },
        "image_token_index": tokenizer.convert_tokens_to_ids("<|image|>"),
    }


def janus(tf, folder):
    names = {"image_token": "<image_placeholder>", "boi_token": "<boi>", "eoi_token": "<eoi>"}
    tokenizer = named(folder, marked(*names.values()), names)
    processor = tf.JanusProcessor(
        image_processor=tf.JanusImageProcessor(size={"height": 28, "width": 28}),
        tokenizer=tokenizer,
        chat_template=template("<image_placeholder>"),
        num_image_tokens=16,
    )
    seen = {k: v for k, v in VISION.items() if k != "intermediate_size"}
    drawn = {"embed_dim": 4, "num_embeddings": 8, "latent_channels": 32, "num_res_blocks": 1}
    return processor, {
        "text_config": {**TEXT, "model_type": "llama"},
        "vision_config": {**seen, "mlp_ratio": 2.0, "projection_dim": 32, "num_image_tokens": 16},
        "vq_config": {
            **drawn, "base_channels": 32, "channel_multiplier": [1, 1], "projection_dim": 32,
            "image_token_embed_dim": 32,
        },
        "image_token_id": tokenizer.convert_tokens_to_ids("<image_placeholder>"),
    }  # fmt: skip


FAMILIES = {f.__name__: f for f in (internvl, idefics3, qwen3_vl, llava_next, mllama, janus)}


def row(model, number, turns, sizes, **more):
    sample = Sample(
        [
            torch.randint(
                0,
                256,
                (3, *size),
                dtype=torch.uint8,
                generator=torch.Generator().manual_seed(number + k),
            )
            for k, size in enumerate(sizes)
        ],
        layout="single" if len(sizes) == 1 else "interleaved",
        turns=[Turn(*turn) for turn in turns],
        meta={"id": str(number)},
        **more,
    )
    return TransformedDataset([sample], model.preprocess, training=False, caption="all")[0, 0]


def told(processor, found, count):
    """The first `count` turns of an item by transformers' calls alone."""
    messages = [
        {
            "role": turn.role,
            "content": [
                *({"type": "image"} for _ in turn.image_ids),
                {"type": "text", "text": turn.text},
            ],
        }
        for turn in found.sample.turns[:count]
    ]
    return processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=count == 1)


def made(family, folder):
    """The family's folder at a tiny size."""
    import transformers as tf

    torch.manual_seed(0)
    processor, numbers = FAMILIES[family](tf, folder)
    numbers["text_config"]["vocab_size"] = len(processor.tokenizer)
    config = tf.AutoConfig.for_model(family, **numbers)
    model = tf.AutoModelForImageTextToText.from_config(config)
    for name, p in model.named_parameters():
        if "gate" in name.rpartition(".")[2] and p.numel() == 1:  # shut in a new Mllama
            torch.nn.init.constant_(p, 0.5)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_the_plain_call(family, tmp_path):
    from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor

    made(family, tmp_path)
    model = hf_vlm(lm={"weights": tmp_path, "tuning": "frozen"}).eval()
    theirs = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    processor = AutoProcessor.from_pretrained(tmp_path)
    processor.image_processor = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    # Sizes that give different numbers of tiles.
    rows = [
        row(model, 0, [("user", "how many ?", (0,)), ("assistant", "two")], [(50, 70)]),
        row(model, 3, [("user", "is it ?", (0, 1)), ("assistant", "yes")], [(90, 40), (64, 64)]),
    ]
    images = [[to_pil(image) for image in found.sample.images] for found in rows]
    inputs = processor(
        text=[told(processor, found, 2) for found in rows], images=images, padding=True,
        padding_side="right", return_tensors="pt", add_special_tokens=False,
    )  # fmt: skip
    batch = model.collate(training=True)(rows)
    assert not batch.skipped and torch.equal(inputs["input_ids"], batch.input_ids)
    with torch.no_grad():
        expected = theirs(**inputs).logits[:, :-1][batch.labels[:, 1:] != -100]
        torch.testing.assert_close(model(batch)["logits"], expected, **CLOSE)
    answers = model.generate(model.collate(training=False)(rows), max_new_tokens=5)
    for found, shown, answer in zip(rows, images, answers, strict=True):
        asked = processor(
            text=[told(processor, found, 1)], images=[shown], return_tensors="pt",
            add_special_tokens=False,
        )  # fmt: skip
        with torch.no_grad():
            ids = theirs.generate(**asked, max_new_tokens=5, do_sample=False)
        new = ids[0, asked["input_ids"].shape[1] :]
        assert answer.text == processor.tokenizer.decode(new, skip_special_tokens=True).strip()
    whole = hf_vlm(lm={"weights": tmp_path, "tuning": "full"}).train()
    whole(batch)["logits"].sum().backward()
    # What data parallel must not wait for.
    assert {n for n, p in whole.lm.named_parameters() if p.grad is None} == set(whole.lm.idle)
    assert bool(whole.lm.idle) is (family in ("llava_next", "janus"))
    trained = hf_vlm(lm={"weights": tmp_path, "tuning": "lora", "lora": {"targets": ["q_proj"]}})
    trained(batch)["logits"].sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in trained.parameters())
    names = [name for name, p in trained.named_parameters() if p.requires_grad]
    assert len(names) == 2 * 2 and not any("vision" in name for name in names)


@pytest.mark.parametrize(
    ("family", "answer"),
    [
        ("internvl", "<box>[[77, 200, 462, 440]]</box>"),
        ("qwen3_vl", '[{"bbox_2d": [77, 200, 462, 440]}]'),
    ],
)
def test_boxes_in_thousandths(family, answer, tmp_path):
    made(family, tmp_path)
    model = hf_vlm(lm={"weights": tmp_path, "tuning": "frozen"})
    box = (10.0, 20.0, 60.0, 44.0)
    turns = [
        ("user", "the tank", (0,), (5,), "refer"),
        ("assistant", "the tank", (), (5,), "refer"),
    ]
    found = row(model, 1, turns, [(100, 130)], instances=[Instance(5, "tank", 1, None, box)])
    batch = model.collate(training=False)([found])
    assert batch.answers == [answer] and "the tank" in batch.prompts[0]
    (back,) = model.codec.parse(answer, batch.geometry[0][0]).boxes
    assert back.box == pytest.approx(box, abs=0.07)  # half a thousandth of 130
    assert model.codec is codec(model.system.boxes)


def test_a_processor_that_writes_around_images_is_told(tmp_path):
    import transformers as tf

    names = {"boi_token": "<boi>", "eoi_token": "<eoi>", "image_token": "<soft>"}
    tokenizer = named(tmp_path, marked(*names.values()), names)
    processor = tf.Gemma3Processor(
        image_processor=tf.Gemma3ImageProcessor(size={"height": 28, "width": 28}),
        tokenizer=tokenizer,
        image_seq_length=4,
        chat_template=template("<boi>"),
    )
    model = hf_vlm(lm={"size": "tiny_llava", "processor": processor})
    found = row(model, 0, [("user", "how many ?", (0,)), ("assistant", "two")], [(50, 70)])
    with pytest.raises(UserError, match="Gemma3Processor puts plain text around an image"):
        model.collate(training=True)([found])


@pytest.mark.parametrize(
    ("family", "recipe"),
    [
        ("mllama", "llama3_2_11b_vision_rswk"),
        pytest.param("internvl", "internvl2_5_8b_rswk", marks=pytest.mark.slow),
        pytest.param("janus", "janus_pro_7b_rswk", marks=pytest.mark.slow),
    ],
)
def test_rsrags_recipe_takes_a_real_step(family, recipe, tmp_path, compose):
    pytest.importorskip("peft")
    from hydra.utils import instantiate

    made(family, tmp_path)
    cfg = compose("train", [f"experiment={recipe}", "optimizer.fused=false"])
    cfg.model.lm.update({"size": None, "weights": str(tmp_path), "dtype": "float32"})
    cfg.model.lm.grad_checkpointing = False
    model = instantiate(cfg.model).train()
    rows = [
        row(model, n, [("user", "how many ?", (0,)), ("assistant", "two")], [(50, 70)])
        for n in range(2)
    ]
    batch = model.collate(training=True)(rows)
    optimizer = instantiate(cfg.optimizer)(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(2):  # LoRA's A moves once B has
        optimizer.zero_grad()
        total = sum(instantiate(cfg.loss)(model(batch), batch).values())
        total.backward()
        optimizer.step()
    assert torch.isfinite(total)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, p in model.named_parameters() if p.requires_grad}
