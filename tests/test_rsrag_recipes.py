"""RS-RAG's recipes: at full size on `meta`, and one that learns beside retrieved passages."""

import json

import pytest
import torch
from hydra.utils import instantiate

from rsvlm.data.loading.contexts import RetrievedContext
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Sample, Turn

HF = {
    "qwen2_5_vl_7b_rswk": (28, 8.29e9),
    "internvl2_5_8b_rswk": (32, 8.08e9),
    "llama3_2_11b_vision_rswk": (40, 10.67e9),
    "janus_pro_7b_rswk": (30, 7.42e9),
    "qwen2_5_vl_7b_rswk_context": (28, 8.29e9),
}


def configured(compose, recipe):
    words = [f"experiment={recipe}", "optimizer.fused=false"]
    if "context" in recipe:
        words.append("data.dataset.contexts=contexts.jsonl")
    cfg = compose("train", words)
    assert cfg.data.augment is None and cfg.model.instructions is None
    return cfg


@pytest.mark.slow
@pytest.mark.parametrize("recipe", HF)
def test_full_size_takes_a_step_on_meta(compose, recipe):
    pytest.importorskip("peft")
    layers, size = HF[recipe]
    cfg = configured(compose, recipe)
    cfg.model.lm.weights = None
    with torch.device("meta"):
        model = instantiate(cfg.model).train()
    added = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert all(".lora_" in name for name in added) and len(added) == 2 * 7 * layers
    published = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in added.values())
    assert published == pytest.approx(size, rel=0.005)
    lm = model.lm
    width = lm.model.config.get_text_config().hidden_size
    more = {}
    if lm.kind == "mllama":  # four tiles of 1,601 places
        more["cross_attention_states"] = torch.empty(2, 4 * 1601, width, device="meta")
    read = torch.empty(2, 16, width, device="meta", dtype=lm.dtype)
    more = {name: value.to(lm.dtype) for name, value in more.items()}
    # With a cache, or transformers looks for packed rows in positions, whose values meta lacks.
    hidden = lm.decoder(inputs_embeds=read, use_cache=True, **more).last_hidden_state
    lm.model.get_output_embeddings()(hidden).sum().backward()
    instantiate(cfg.optimizer)(model).step()
    # Layers of cross attention have their k and v of the image alone.
    assert all(p.grad is not None for p in added.values())


class Places(list):
    """Questions on pictures, as a reader gives them."""

    name, split = "places", "train"


def places(split="train"):
    del split
    return Places(
        Sample(
            [torch.full((3, 40, 40), 40 * i, dtype=torch.uint8)],
            turns=[
                Turn("user", "when was it built?", (0,), kind="vqa"),
                Turn("assistant", f"19{i}0", kind="vqa"),
            ],
            meta={"id": f"p{i}"},
        )
        for i in range(4)
    )


@pytest.fixture
def contexts(tmp_path):
    path = tmp_path / "contexts.jsonl"
    rows = [
        {
            "id": f"p{i}",
            "question": "when was it built?",
            "passages": [
                {"record": f"r{i}", "text": "it is a hall </s>"},
                {"record": f"r{i}", "text": f"it was built in 19{i}0."},
            ],
        }
        for i in range(4)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_it_learns_beside_passages_of_which_some_are_wrong(compose, contexts):
    """A narrow one of the recipe's takes a real step on what the data set gives."""
    pytest.importorskip("peft")
    cfg = configured(compose, "qwen2_5_vl_7b_rswk_context")
    assert cfg.data.dataset.wrong == 0.3
    cfg.model.lm.update({"size": "tiny_qwen2_5_vl", "weights": None, "words": "chat"})
    cfg.model.lm.update({"dtype": "float32", "pixels": None})
    torch.manual_seed(0)
    model = instantiate(cfg.model).train()
    data = RetrievedContext(places, contexts=contexts, wrong=0.5)
    view = TransformedDataset(data, model.preprocess, training=False, caption="all")
    batch = model.collate(training=True)([view[0, i] for i in range(4)])
    assert len(batch) == 4 and not batch.skipped
    assert all("Facts from a knowledge base" in text for text in batch.instructions)
    optimizer = instantiate(cfg.optimizer)(model)
    for _ in range(2):  # LoRA's A moves once B has
        optimizer.zero_grad()
        total = sum(instantiate(cfg.loss)(model(batch), batch).values())
        total.backward()
        optimizer.step()
    assert torch.isfinite(total)
