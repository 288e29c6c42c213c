"""GeoPix, PixelLM and LISA against the published code, loaded from their published layouts."""

import json

import pytest
import torch
from golden_case import read_case
from model_options import build
from safetensors.torch import save_file

from rsvlm import checkpoints
from rsvlm.data.collate.pixel import PixelBatch
from rsvlm.data.geometry import identity
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Sample
from rsvlm.data.transforms import to_pil
from rsvlm.models.pixel.placing import as_stored
from rsvlm.models.pixel.runs import whole_runs
from rsvlm.nn.mask_predictor import mask_scores

CLOSE = {"atol": 1e-4, "rtol": 0.0}  # the project's bound for parity
WORDS = ["tank"]


def llama(width):
    return {
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
    }


def language(width):
    return {"size": llama(width), "words": WORDS, "tuning": "frozen"}


def parts_folder(folder, state):
    """The state dict of a case as GeoPix's folder of parts."""
    groups = {}
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        groups.setdefault(part, {})[rest] = tensor
    for part, tensors in groups.items():
        if part in ("seg", "pec", "clm"):
            (folder / part).mkdir(parents=True)
            (folder / part / "config.json").write_text(json.dumps({"model_type": part}))
            save_file(
                {n: t.contiguous() for n, t in tensors.items()}, folder / part / "model.safetensors"
            )
        elif part.endswith("_scalar"):
            rows = [torch.nn.Parameter(tensors[str(i)]) for i in range(len(tensors))]
            torch.save(rows, folder / f"{part}.pth")
        else:
            torch.save(tensors, folder / f"{part}.pth")
    return folder


def geopix_of(case, variant="released", **memory):
    cfg = case.spec["config"]
    side = cfg["image_size"] // cfg["patch_size"]
    return build(
        "geopix",
        vision={
            "arch": {
                "image_size": cfg["image_size"],
                "patch_size": cfg["patch_size"],
                "width": cfg["vision_width"],
                "layers": 1,
                "heads": 4,
                "mlp_ratio": 0.01,
            },
            "image_size": cfg["image_size"],
            "layer": -1,
            "also": [-1, -1],
        },
        lm=language(cfg["llm_hidden_size"]),
        variant=variant,
        tuning="frozen",
        memory={
            "classes": cfg["num_class"],
            "levels": cfg["num_level"],
            "length": cfg["memory_len"],
            "memory_dim": cfg["memory_dim"],
            "grid": cfg["feature_h"],
            "norm": "batch",
            "variant": variant,
            **memory,
        },
        classes=[f"class{i}" for i in range(cfg["num_class"])],
        masks={"grid": side, "image_size": cfg["image_size"], "canvas": 4 * side},
    ).eval()


@pytest.mark.parity("geopix")
def test_geopix_as_released(golden, scratch):
    case = read_case(golden / "geopix")
    cfg, given, wanted = case.spec["config"], case.inputs(), case.tensors
    model = geopix_of(case)
    report = checkpoints.load(
        model, parts_folder(scratch, case.state()), towers=["vision", "bridge", "lm", "new"]
    )
    assert report.dialect == "GeoPix"
    assert not any(name.startswith(("masks.", "necks.")) for name in report.missing)
    tokens = cfg["seg_token_num"] * cfg["image_feature_scale_num"]
    # The tower's layers as the model hands them on: its own, -11, -2.
    layers = [given["input.feature_minus_2"], given["input.feature_minus_11"]]
    features = torch.cat([layers[0], layers[1], layers[0]], dim=-1)
    with torch.no_grad():
        maps = model.mask_features(None, features)
        prompts = model.masks.prompts(given["input.seg_hidden"].unflatten(0, (-1, tokens)))
        count = len(prompts)
        rows = torch.zeros(count, dtype=torch.long)
        classes = torch.full((count,), cfg["class_idx"])
        found = model.masks(maps, prompts, rows, classes)
        memory, canvas = model.masks.memory, model.masks.canvas
        encoded = memory.encoder(maps[0], torch.zeros(1, 1, canvas, canvas))
        banks = [memory.bank(classes[:1], level) for level in range(cfg["num_level"])]
        read = [memory(maps[i], maps[i], classes[:1], i) for i in range(cfg["num_level"])]
    torch.testing.assert_close(maps[0][:, ::16], wanted["neck_rough"], **CLOSE)
    torch.testing.assert_close(maps[1][:, ::16], wanted["neck_detail"], **CLOSE)
    torch.testing.assert_close(prompts, wanted["sparse"], **CLOSE)
    positions = model.masks.prompt_encoder.positions()
    torch.testing.assert_close(positions[:, ::16], wanted["image_pe"], **CLOSE)
    torch.testing.assert_close(encoded, wanted["memory_encoding"], **CLOSE)
    for level in range(cfg["num_level"]):
        torch.testing.assert_close(banks[level], wanted[f"fused_memory_{level}"], **CLOSE)
        torch.testing.assert_close(read[level][:, ::16], wanted[f"memory_image_{level}"], **CLOSE)
        torch.testing.assert_close(found.levels[level], wanted[f"mask_level_{level}"], **CLOSE)
    torch.testing.assert_close(found.logits, wanted["pred_mask"], **CLOSE)


@pytest.mark.parity("pixellm_decoder")
def test_pixellm_decoder_masks_and_scores(golden, scratch):
    case = read_case(golden / "pixellm_decoder")
    cfg, given, wanted = case.spec["config"], case.inputs(), case.tensors
    levels, tokens = cfg["image_feature_scale_num"], cfg["seg_token_ids"]
    size, grid = cfg["resize_vision_tower_size"], cfg["grid"]
    model = build(
        "pixellm_7b",
        vision={
            "arch": {
                "image_size": size,
                "patch_size": size // grid,
                "width": 16,
                "layers": 1,
                "heads": 2,
            },
            "image_size": size,
            "layer": -1,
            "also": [-1, -1],
            "positions": "exact",
        },
        lm=language(cfg["hidden_size"]),
        bridge={"grid": 2},
        masks={
            "grid": grid,
            "image_size": size,
            "canvas": cfg["mask_canvas"],
            "token_weight": cfg["multiseg_scalar"][0],
        },
        tuning="frozen",
    ).eval()
    torch.save(case.state(), scratch / "pytorch_model.bin")
    report = checkpoints.load(
        model, scratch, towers=["vision", "bridge", "lm", "new", "mask_projector"]
    )
    assert report.dialect == "PixelLM"
    left = [n for n in report.missing if n.startswith(("masks.", "neck."))]
    assert all("_weights." in name for name in left)  # in no file: they stay as they start
    hidden = given["input.seg_hidden"]
    maps = given["input.image_features"].transpose(-1, -2).unflatten(-1, (grid, grid))
    with torch.no_grad():
        torch.testing.assert_close(model.masks.text(hidden), wanted["text_embeddings"], **CLOSE)
        prompts = model.masks.prompts(hidden.unflatten(0, (-1, tokens)))
        features = [model.neck(maps[level]) for level in range(levels)]
        counts = cfg["targets_per_image"]
        rows = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        found = model.masks(features, prompts, rows)  # both images at once
    first = torch.stack([level[0, ::8] for level in features])
    torch.testing.assert_close(first, wanted["neck_0"], **CLOSE)
    parts = zip(
        found.logits.split(counts), *(level.split(counts) for level in found.levels), strict=True
    )
    for i, (logits, *by_level) in enumerate(parts):
        torch.testing.assert_close(prompts[rows == i], wanted[f"fused_{i}"], **CLOSE)
        for level, masks in enumerate(by_level):
            if f"level{level}_masks_{i}" in wanted:
                torch.testing.assert_close(masks, wanted[f"level{level}_masks_{i}"], **CLOSE)
        high, wide = cfg["clip_resize"][i]
        geometry = identity(*cfg["original_size"][i]).resize(high, wide).crop(0, 0, size, size)
        placed = as_stored(logits, geometry)
        torch.testing.assert_close(placed, wanted[f"pred_masks_{i}"], **CLOSE)
        torch.testing.assert_close(mask_scores(placed), wanted[f"mask_scores_{i}"], **CLOSE)


@pytest.mark.parity("lisa_sam")
def test_lisa_sam_images_to_masks(golden, scratch):
    case = read_case(golden / "lisa_sam")
    cfg, given, wanted = case.spec["config"], case.inputs(), case.tensors
    heads, depth = cfg["decoder_heads"], 2
    model = build(
        "lisa_7b",
        vision={
            "arch": {"image_size": 28, "patch_size": 14, "width": 16, "layers": 1, "heads": 2},
            "image_size": 28,
            "layer": -1,
        },
        lm=language(cfg["hidden_size"]),
        sam={
            "size": {
                "width": cfg["encoder_width"],
                "depth": cfg["encoder_depth"],
                "heads": cfg["encoder_heads"],
                "whole": cfg["global_attn_indexes"],
                "window": cfg["window_size"],
                "patch_size": cfg["patch_size"],
                "out_dim": cfg["out_dim"],
            },
            "image_size": cfg["image_size"],
        },
        masks={
            "mask_channels": cfg["mask_in_chans"],
            "decoder": {
                "_target_": "rsvlm.nn.mask_decoder.MaskDecoder",
                "dim": cfg["out_dim"],
                "depth": depth,
                "heads": heads,
                "mlp_dim": cfg["mlp_dim"],
                "levels": 1,
                "upscale": 4,
                "score_hidden": cfg["iou_hidden"],
            },
        },
        tuning="frozen",
    ).eval()
    torch.save(case.state(), scratch / "pytorch_model.bin")
    report = checkpoints.load(model, scratch, towers=["vision", "bridge", "lm", "new"])
    assert report.dialect == "LISA"
    assert not any(name.startswith(("masks.", "sam.")) for name in report.missing)
    pictures = [wanted[f"image_{i}"].permute(2, 0, 1) for i in range(len(cfg["sizes"]))]
    samples = [Sample([to_pil(p)], meta={"id": i}) for i, p in enumerate(pictures)]
    view = TransformedDataset(samples, model.preprocess, training=False, caption="all")
    items = [view[(0, i)] for i in range(len(samples))]
    batch = empty_batch(items)
    for i, (high, wide) in enumerate(cfg["resized"]):
        resized = wanted[f"resized_{i}"].permute(2, 0, 1)
        assert torch.equal(batch.images[i, :, :high, :wide], resized.to(torch.uint8))
    with torch.no_grad():
        (features,) = model.mask_features(batch, torch.zeros(2, 1, 16))
        for i in range(len(samples)):
            torch.testing.assert_close(features[i : i + 1], wanted[f"image_embedding_{i}"], **CLOSE)
        torch.testing.assert_close(
            model.masks.prompt_encoder.positions(), wanted["image_pe"], **CLOSE
        )
        dense = model.masks.prompt_encoder.dense().flatten()
        torch.testing.assert_close(dense, wanted["dense_embedding"], **CLOSE)
        states, rows, names = [], [], []
        for row in case.spec["rows"]:
            runs, _ = whole_runs(row["ids"], [cfg["seg_token_idx"]])
            hidden = given[row["hidden"]][0]
            # The picture is one id and 255 states more; a state predicts the id behind it.
            more = len(hidden) - len(row["ids"])
            states += [hidden[[place + more for place in run]] for run in runs]
            rows += [row["image"]] * len(runs)
            names.append((f"{row['image']}_{row['objects']}", len(runs)))
        prompts = model.masks.prompts(torch.stack(states))
        found = model.masks([features], prompts, torch.tensor(rows))
        every = model.masks.decoder(
            features[rows],
            prompts,
            model.masks.prompt_encoder.positions(),
            model.masks.prompt_encoder.dense(),
            every=True,
        )
    counts = [count for _, count in names]
    parts = zip(
        names,
        found.logits.split(counts),
        prompts.split(counts),
        every[0].split(counts),
        every[1].split(counts),
        strict=True,
    )
    for (name, count), logits, prompt, masks, scores in parts:
        torch.testing.assert_close(prompt[:, 0], wanted[f"text_embeds_{name}"], **CLOSE)
        torch.testing.assert_close(logits[:, None], wanted[f"low_res_masks_{name}"], **CLOSE)
        torch.testing.assert_close(scores[:, :1], wanted[f"iou_{name}"], **CLOSE)
        image = name.split("_")[0]
        placed = as_stored(logits, batch.geometry[int(image)][0])
        torch.testing.assert_close(placed, wanted[f"pred_masks_{name}"], **CLOSE)
        if count and count == max(counts):
            torch.testing.assert_close(
                masks[:, 1:], wanted[f"low_res_masks_multi_{image}"], **CLOSE
            )
            torch.testing.assert_close(scores[:, 1:], wanted[f"iou_multi_{image}"], **CLOSE)


def empty_batch(items):
    """Images without questions."""
    count = len(items)
    none = torch.zeros(count, 0, dtype=torch.long)
    return PixelBatch(
        images=torch.stack([item.sample.images[0] for item in items]),
        image_rows=[(i,) for i in range(count)],
        input_ids=none,
        attention_mask=none,
        labels=none,
        prompts=[""] * count,
        answers=[""] * count,
        references=[[]] * count,
        targets=[[]] * count,
        instructions=[""] * count,
        instruction_ids=None,
        instruction_mask=None,
        kinds=[None] * count,
        index=torch.arange(count),
        ids=[str(i) for i in range(count)],
        geometry=[item.geometry for item in items],
        truncated=0,
        lost=0,
        skipped=[],
        masks=[],
        boxes=[],
        categories=[],
        phrases=[],
        instance_rows=[],
        classes=[],
        frame="stored",
    )
