"""MModalCC, RSICCformer and Chg2Cap give what their published code gives, through the loader."""

from types import SimpleNamespace

import pytest
import torch
from change_files import counters, save_pickled
from golden_change import Features, case

from rsvlm import checkpoints
from rsvlm.encoders.resnet import ResNet
from rsvlm.losses.language import CaptionLoss
from rsvlm.models.change_captioning.beam_search import beam_search
from rsvlm.models.change_captioning.chg2cap import Chg2Cap
from rsvlm.models.change_captioning.decoder import CaptionDecoder
from rsvlm.models.change_captioning.mmodalcc import MMODALCC, MModalCC
from rsvlm.models.change_captioning.rsiccformer import RSICCformer


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parity("mmodalcc")
@torch.no_grad()
def test_mmodalcc_equals_the_published_code(tmp_path):
    found = case("mmodalcc")
    sizes, expected = found.spec["config"], found.tensors
    file = save_pickled(tmp_path / "best.pth.tar", counters(found.state()))
    stages = {}
    for name in found.spec["state"]:
        parts = name.split(".")
        if parts[0] == "encoder_image" and len(parts) > 4:
            stages.setdefault(int(parts[2]), set()).add(int(parts[3]))
    blocks = [len(stages[stage]) for stage in sorted(stages)]
    model = MModalCC(
        ResNet(blocks),
        ResNet(blocks),
        sizes["vocab_size"],
        dim=sizes["d_model"],
        heads=sizes["n_head"],
        layers=sizes["encoder_layers"],
        grid=sizes["encoded_image_size"],
        decoder_heads=sizes["decoder_heads"],
        decoder_layers=sizes["decoder_layers"],
        variant="parallel",
    ).eval()
    report = checkpoints.load(model, file)
    assert report.loaded == report.total and report.dialect == "mmodalcc"
    assert any("attention.in_proj" in name for name in report.dropped)
    images = expected["images"]
    batch = SimpleNamespace(images=images[:, :2], semantic=images[:, 2:])
    features = torch.nn.functional.adaptive_avg_pool2d(
        model.rgb(images[:, 0]), sizes["encoded_image_size"]
    )
    close(features[:, :8], expected["backbone_a"])
    memories = model.memories(batch)
    for memory, name in zip(memories, ("fused_image", "fused_semantic"), strict=True):
        # Measured at the published widths: 1.0e-5 here, 2.5e-6 at the logits.
        close(memory.transpose(0, 1)[::8, :, ::16], expected[name])
    close(model.decoder(memories, expected["captions"]), expected["logits"])


def beam_ids(hypothesis, start, end):
    return [start, *hypothesis.ids, *([end] if hypothesis.finished else [])]


@pytest.mark.parity("mmodalcc_beam")
@torch.no_grad()
def test_mmodalcc_beam_equals_the_published_loop(tmp_path):
    found = case("mmodalcc_beam")
    sizes, expected = found.spec["config"], found.tensors
    file = save_pickled(tmp_path / "best.pth.tar", counters(found.state()))
    decoder = CaptionDecoder(
        sizes["vocab_size"],
        sizes["decoder_dim"],
        heads=sizes["decoder_heads"],
        layers=sizes["decoder_layers"],
        memories=2,
        gated=True,
    ).eval()
    report = checkpoints.load(decoder, file, part="decoder", dialects=[MMODALCC])
    assert report.loaded == report.total
    start, end = sizes["word_map"]["<start>"], sizes["word_map"]["<end>"]
    order = sorted(found.spec["inputs"])
    assert order == ["input.memory_image", "input.memory_semantic"]
    memories = [found.inputs()[name] for name in order]
    total = sizes["samples"]
    for beam in sizes["beam_sizes"]:
        options = {
            "start": start,
            "end": end,
            "beam_size": beam,
            "steps": sizes["max_positions"] - 1,
        }
        best = beam_search(decoder.begin(memories), total, **options)
        every = beam_search(decoder.begin(memories), total, exhaustive=True, **options)
        ended = 0
        for i in range(total):
            length = int(expected[f"beam{beam}_length"][i])
            ended += length > 0
            assert best[i][0].finished == (length > 0)
            assert best[i][0].ids == every[i][0].ids
            if not length:  # the published loop drops it; ours says what it had
                assert len(best[i][0].ids) == sizes["max_positions"] - 1
                continue
            ids = expected[f"beam{beam}_ids"][i][:length].tolist()
            assert beam_ids(best[i][0], start, end) == ids
            score = float(expected[f"beam{beam}_score"][i])
            assert best[i][0].score == pytest.approx(score, abs=1e-4, rel=1e-5)
            assert len(every[i]) == int(expected[f"beam{beam}_completed"][i])
            if f"beam{beam}_all_ids" in expected:
                table = expected[f"beam{beam}_all_ids"][i][: len(every[i])]
                theirs = sorted([w for w in row if w >= 0] for row in table.tolist())
                assert sorted(beam_ids(h, start, end) for h in every[i]) == theirs
        assert ended


@pytest.mark.parity("rsiccformer")
@torch.no_grad()
def test_rsiccformer_equals_the_published_code(tmp_path):
    found = case("rsiccformer")
    sizes, expected, inputs = found.spec["config"], found.tensors, found.inputs()
    file = save_pickled(tmp_path / "best.pth.tar", counters(found.state()))
    model = RSICCformer(
        Features(sizes["feature_dim"]),
        sizes["vocab_size"],
        dim=sizes["d_model"],
        heads=sizes["n_head"],
        layers=sizes["encoder_layers"],
        grid=sizes["height"],
        decoder_heads=sizes.get("decoder_heads", sizes["n_head"]),
        decoder_layers=sizes["decoder_layers"],
        pad=sizes["pad_id"],
    ).eval()
    report = checkpoints.load(model, file)
    assert report.loaded == report.total and report.dialect == "rsiccformer"
    images = torch.stack([inputs["input.before"], inputs["input.after"]], dim=1)
    for i, (before, after) in enumerate(model.encoder.outputs(images)):
        close(before.transpose(0, 1)[::8], expected[f"layer{i}_before"])
        close(after.transpose(0, 1)[::8], expected[f"layer{i}_after"])
    (memory,) = model.memories(SimpleNamespace(images=images))
    close(memory.transpose(0, 1), expected["fused"])
    (swapped,) = model.memories(SimpleNamespace(images=images.flip(1)))
    close(swapped.transpose(0, 1)[::8], expected["fused_swapped"])
    captions, lengths = expected["captions"], expected["caption_lengths"]
    logits = model.decoder([memory], captions)
    close(logits, expected["logits"])
    batch = SimpleNamespace(images=images, input_ids=captions, caption_lengths=lengths)
    loss = CaptionLoss(sizes["pad_id"])
    close(loss({"logits": logits}, batch)["caption"], expected["loss"])
    close(loss(model(batch), batch)["caption"], expected["loss"])


@pytest.mark.parity("chg2cap")
@torch.no_grad()
def test_chg2cap_equals_the_published_code(tmp_path):
    found = case("chg2cap")
    sizes, expected, inputs = found.spec["config"], found.tensors, found.inputs()
    content = {}
    for name, value in counters(found.state()).items():
        part, _, rest = name.partition(".")
        content.setdefault(part, {})[rest] = value
    torch.save(content, tmp_path / "best.pth")
    words = sizes["word_vocab"]
    model = Chg2Cap(
        Features(sizes["encoder_dim"]),
        sizes["vocab_size"],
        grid=sizes["feat_size"],
        heads=sizes["n_heads"],
        layers=sizes["n_layers"],
        attention_dim=sizes["attention_dim"],
        hidden=sizes["hidden_dim"],
        dim=sizes["feature_dim"],
        decoder_layers=sizes["decoder_layers"],
        start=words["<START>"],
        end=words["<END>"],
        pad=words["<NULL>"],
        steps=sizes["max_length"],
    ).eval()
    report = checkpoints.load(model, tmp_path / "best.pth")
    assert report.loaded == report.total and report.dialect == "chg2cap"
    images = torch.stack([inputs["input.before"], inputs["input.after"]], dim=1)
    encoded = model.encoder(images)
    close(encoded[:, 0], expected["encoded_before"])
    close(encoded[:, 1], expected["encoded_after"])
    close(model.fusion(encoded), expected["memory"])
    captions, lengths = expected["captions"], expected["caption_lengths"]
    batch = SimpleNamespace(images=images, input_ids=captions, caption_lengths=lengths)
    logits = model.decoder(model.memories(batch), captions)
    close(logits, expected["logits"])
    close(CaptionLoss(words["<NULL>"])(model(batch), batch)["caption"], expected["loss"])
    for row, (best, *_) in zip(
        expected["greedy_ids"].tolist(), model.hypotheses(batch, beam_size=1), strict=True
    ):
        theirs = [word for word in row if word >= 0]
        assert beam_ids(best, words["<START>"], words["<END>"]) == theirs
