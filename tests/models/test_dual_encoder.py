"""Two frozen towers and two heads: what is trained, what is kept, what is found."""

import pytest
import torch
from hydra.utils import instantiate

from rsvlm.data.collate.pairs import PairBatch
from rsvlm.encoders.sentences import SentenceEncoder
from rsvlm.encoders.timm_grid import TimmGrid
from rsvlm.errors import UserError
from rsvlm.losses.contrastive import ClipLoss
from rsvlm.models.dual_encoder.model import DualEncoder
from rsvlm.models.protocols import check_model, is_contrastive

SIZE = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
TEXTS = ["a red roof .", "two boats", "a red roof .", "trees beside a long river"]


def dual(tmp_path=None):
    torch.manual_seed(0)
    vision = TimmGrid("tf_efficientnet_lite0", levels=[3], grid=2, image_size=32)
    text = SentenceEncoder(size=SIZE, words="world")
    return DualEncoder(vision, text, dim=8, hidden=16, cache_gib=0.1, cache_folder=tmp_path)


def batch(model):
    ids = model.tokenizer(TEXTS, 20)
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    rows = torch.arange(4)
    return PairBatch(images, ids, rows, rows, rows - 5, TEXTS, list("abcd"), 0, [])


def test_it_learns_its_batch_and_the_towers_stay(tmp_path):
    model = dual(tmp_path).train()
    check_model(model)
    assert is_contrastive(model)
    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    assert {n.split(".")[0] for n in frozen} == {"vision", "text"}
    assert not any(n.startswith("text.table") for n in frozen)
    given, loss = batch(model), ClipLoss(duplicates="masked")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-2)
    losses = []
    for _ in range(20):
        total = loss(model(given), given)["contrastive"]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        model.clamp_logit_scale()
        losses.append(float(total.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert model.cache.misses == 4 and model.text.cache.misses == 3
    assert all(torch.equal(v, dict(model.named_parameters())[n]) for n, v in frozen.items())
    again = dual(tmp_path)
    again.encode_image(given.images)
    assert again.cache.misses == 0


def test_a_text_is_the_same_alone_and_among_others():
    model = dual().eval()
    ids = model.tokenizer(TEXTS, 20)
    assert (ids.argmax(1) == (ids == model.text.end).int().argmax(1)).all()
    together = model.encode_text(ids, normalize=True)
    alone = torch.cat([model.encode_text(model.tokenizer([t], 12), normalize=True) for t in TEXTS])
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(together.norm(dim=1), torch.ones(4))


def test_a_text_tower_without_weights_says_what_to_give(tmp_path):
    with pytest.raises(UserError, match="weights="):
        SentenceEncoder()
    with pytest.raises(UserError, match=r"model\.text\.weights="):
        SentenceEncoder(size={**SIZE, "vocab_size": 9}).tokenizer(["a"])
    with pytest.raises(UserError, match="all-MiniLM-L6-v2"):
        SentenceEncoder(weights=tmp_path)


def test_its_recipe_takes_a_real_step(compose):
    # At full size it takes one on meta with the others (tests/test_recipes.py).
    cfg = compose("train", ["experiment=dual_encoder_rsicd", "optimizer.fused=false"])
    cfg.model.cache_folder = cfg.model.text.cache_folder = None
    cfg.model.vision.image_size = cfg.model.vision.scale_to = 64
    cfg.model.text.words = "world"
    cfg.model.text.size.hidden_size, cfg.model.text.size.intermediate_size = 384 // 16, 1536 // 16
    cfg.model.dim, cfg.model.hidden = 256 // 16, 512 // 16
    torch.manual_seed(0)
    model = instantiate(cfg.model).train()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    given = batch(model)
    given.images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    optimizer = instantiate(cfg.optimizer)(model)
    total = instantiate(cfg.loss)(model(given), given)["contrastive"]
    total.backward()
    optimizer.step()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert torch.isfinite(total)
    assert moved == {n for n, p in model.named_parameters() if p.requires_grad}
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates["text.decay"] == pytest.approx(0.3 * rates["decay"])
