"""Writes the key manifests: names and shapes of published checkpoints, from their sizes.

    python tests/keys/make.py

This file imports nothing of rsvlm, so that the manifests are a second opinion. Layouts: GeoRSCLIP
and RemoteCLIP are bare open_clip state dicts; SkyCLIP are open_clip training checkpoints, whose
names start with `module.`; CLIP-Cap-4 is in transformers' layout. Sizes: open_clip's JSON files.
The change captioners are dicts of modules (Chg2Cap: of state dicts), named by the key of the dict;
tensors that the published code never uses are there as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

Lines = Iterator[tuple[str, list[int]]]

VOCAB, CONTEXT = 49408, 77
# embedding, image, patch, vision width and layers, text width and layers
VITS = {
    "B-32": (512, 224, 32, 768, 12, 512, 12),
    "B-16": (512, 224, 16, 768, 12, 512, 12),
    "L-14": (768, 224, 14, 1024, 24, 768, 12),
    "L-14-336": (768, 336, 14, 1024, 24, 768, 12),
    "H-14": (1024, 224, 14, 1280, 32, 1024, 24),
}
RN50 = (1024, 224, (3, 4, 6, 3), 64, 512, 12)
MANIFESTS = {
    "georsclip_vitb32": ("B-32", ""),
    "georsclip_vitl14": ("L-14", ""),
    "georsclip_vitl14_336": ("L-14-336", ""),
    "georsclip_vith14": ("H-14", ""),
    "skyclip_vitb32": ("B-32", "module."),
    "skyclip_vitl14": ("L-14", "module."),
    "remoteclip_rn50": ("RN50", ""),
    "remoteclip_vitb32": ("B-32", ""),
    "remoteclip_vitl14": ("L-14", ""),
    "clip_rn50": ("RN50", ""),
    "clip_vitb32": ("B-32", ""),
    "clip_vitb16": ("B-16", ""),
    "clip_vitl14": ("L-14", ""),
    "clip_vitl14_336": ("L-14-336", ""),
    "clip_vith14": ("H-14", ""),
}
HF_MANIFESTS = {"clip_vitl14.cap4": "L-14"}
# Words. LEVIR-CC's word maps are published; SECOND-CC's is not, and 600 stands for it.
CHANGE_MANIFESTS = {"mmodalcc": 600, "rsiccformer": 468, "chg2cap": 464}


def norm(name: str, width: int) -> Lines:
    yield f"{name}.weight", [width]
    yield f"{name}.bias", [width]


def linear(name: str, out: int, into: int) -> Lines:
    yield f"{name}.weight", [out, into]
    yield f"{name}.bias", [out]


def transformer(prefix: str, width: int, layers: int) -> Lines:
    for i in range(layers):
        block = f"{prefix}transformer.resblocks.{i}"
        yield from norm(f"{block}.ln_1", width)
        yield f"{block}.attn.in_proj_weight", [3 * width, width]
        yield f"{block}.attn.in_proj_bias", [3 * width]
        yield from linear(f"{block}.attn.out_proj", width, width)
        yield from norm(f"{block}.ln_2", width)
        yield from linear(f"{block}.mlp.c_fc", 4 * width, width)
        yield from linear(f"{block}.mlp.c_proj", width, 4 * width)


def text_tower(embed: int, width: int, layers: int) -> Lines:
    yield "positional_embedding", [CONTEXT, width]
    yield "text_projection", [width, embed]
    yield "logit_scale", []
    yield from transformer("", width, layers)
    yield "token_embedding.weight", [VOCAB, width]
    yield from norm("ln_final", width)


def vit(embed: int, image: int, patch: int, width: int, layers: int) -> Lines:
    yield "visual.class_embedding", [width]
    yield "visual.positional_embedding", [(image // patch) ** 2 + 1, width]
    yield "visual.proj", [width, embed]
    yield "visual.conv1.weight", [width, 3, patch, patch]
    yield from norm("visual.ln_pre", width)
    yield from transformer("visual.", width, layers)
    yield from norm("visual.ln_post", width)


def batch_norm(name: str, width: int) -> Lines:
    yield from norm(name, width)
    yield f"{name}.running_mean", [width]
    yield f"{name}.running_var", [width]
    yield f"{name}.num_batches_tracked", []


def resnet(embed: int, image: int, stages: tuple[int, ...], width: int) -> Lines:
    half = width // 2
    for i, (out, into) in enumerate([(half, 3), (half, half), (width, half)], start=1):
        yield f"visual.conv{i}.weight", [out, into, 3, 3]
        yield from batch_norm(f"visual.bn{i}", out)
    into = width
    for stage, blocks in enumerate(stages, start=1):
        planes = width * 2 ** (stage - 1)
        for block in range(blocks):
            name = f"visual.layer{stage}.{block}"
            yield f"{name}.conv1.weight", [planes, into, 1, 1]
            yield from batch_norm(f"{name}.bn1", planes)
            yield f"{name}.conv2.weight", [planes, planes, 3, 3]
            yield from batch_norm(f"{name}.bn2", planes)
            yield f"{name}.conv3.weight", [4 * planes, planes, 1, 1]
            yield from batch_norm(f"{name}.bn3", 4 * planes)
            if block == 0:
                yield f"{name}.downsample.0.weight", [4 * planes, into, 1, 1]
                yield from batch_norm(f"{name}.downsample.1", 4 * planes)
            into = 4 * planes
    yield "visual.attnpool.positional_embedding", [(image // 32) ** 2 + 1, into]
    for letter in "kqv":
        yield from linear(f"visual.attnpool.{letter}_proj", into, into)
    yield from linear("visual.attnpool.c_proj", embed, into)


def open_clip(arch: str) -> Lines:
    if arch == "RN50":
        embed, image, stages, width, text_width, text_layers = RN50
        yield from resnet(embed, image, stages, width)
    else:
        embed, image, patch, vision_width, layers, text_width, text_layers = VITS[arch]
        yield from vit(embed, image, patch, vision_width, layers)
    yield from text_tower(embed, text_width, text_layers)


def hf_tower(prefix: str, width: int, layers: int) -> Lines:
    for i in range(layers):
        layer = f"{prefix}.encoder.layers.{i}"
        for letter in "kvq":
            yield from linear(f"{layer}.self_attn.{letter}_proj", width, width)
        yield from linear(f"{layer}.self_attn.out_proj", width, width)
        yield from norm(f"{layer}.layer_norm1", width)
        yield from linear(f"{layer}.mlp.fc1", 4 * width, width)
        yield from linear(f"{layer}.mlp.fc2", width, 4 * width)
        yield from norm(f"{layer}.layer_norm2", width)


def hf_clip(arch: str) -> Lines:
    embed, image, patch, width, layers, text_width, text_layers = VITS[arch]
    positions = (image // patch) ** 2 + 1
    yield "logit_scale", []
    # Saved by transformers before 4.31.
    yield "text_model.embeddings.position_ids", [1, CONTEXT]
    yield "text_model.embeddings.token_embedding.weight", [VOCAB, text_width]
    yield "text_model.embeddings.position_embedding.weight", [CONTEXT, text_width]
    yield from hf_tower("text_model", text_width, text_layers)
    yield from norm("text_model.final_layer_norm", text_width)
    yield "text_projection.weight", [embed, text_width]
    yield "vision_model.embeddings.position_ids", [1, positions]
    yield "vision_model.embeddings.class_embedding", [width]
    yield "vision_model.embeddings.patch_embedding.weight", [width, 3, patch, patch]
    yield "vision_model.embeddings.position_embedding.weight", [positions, width]
    yield from norm("vision_model.pre_layrnorm", width)
    yield from hf_tower("vision_model", width, layers)
    yield from norm("vision_model.post_layernorm", width)
    yield "visual_projection.weight", [embed, width]


def torchvision_resnet(prefix: str, stages: tuple[int, ...]) -> Lines:
    """ResNet-101's children in a Sequential: 0 conv1, 1 bn1, 4 to 7 the stages."""
    yield f"{prefix}0.weight", [64, 3, 7, 7]
    yield from batch_norm(f"{prefix}1", 64)
    into = 64
    for stage, blocks in enumerate(stages):
        planes = 64 * 2**stage
        for block in range(blocks):
            name = f"{prefix}{stage + 4}.{block}"
            yield f"{name}.conv1.weight", [planes, into, 1, 1]
            yield from batch_norm(f"{name}.bn1", planes)
            yield f"{name}.conv2.weight", [planes, planes, 3, 3]
            yield from batch_norm(f"{name}.bn2", planes)
            yield f"{name}.conv3.weight", [4 * planes, planes, 1, 1]
            yield from batch_norm(f"{name}.bn3", 4 * planes)
            if block == 0:
                yield f"{name}.downsample.0.weight", [4 * planes, into, 1, 1]
                yield from batch_norm(f"{name}.downsample.1", 4 * planes)
            into = 4 * planes


def multihead(name: str, width: int) -> Lines:
    yield f"{name}.in_proj_weight", [3 * width, width]
    yield f"{name}.in_proj_bias", [3 * width]
    yield from linear(f"{name}.out_proj", width, width)


def conv(name: str, out: int, into: int, side: int = 1) -> Lines:
    yield f"{name}.weight", [out, into, side, side]
    yield f"{name}.bias", [out]


def resblock(name: str, width: int) -> Lines:
    half = width // 2
    yield from conv(f"{name}.left.0", half, width)
    yield from batch_norm(f"{name}.left.1", half)
    yield from conv(f"{name}.left.3", half, half, 3)
    yield from batch_norm(f"{name}.left.4", half)
    yield from conv(f"{name}.left.6", width, half)
    yield from batch_norm(f"{name}.left.7", width)


def words(prefix: str, vocab: int, width: int, positions: int) -> Lines:
    yield f"{prefix}vocab_embedding.weight", [vocab, width]
    yield f"{prefix}position_encoding.pe", [positions, 1, width]
    yield f"{prefix}position_encoding.embedding_1D.weight", [52, width]
    yield from linear(f"{prefix}wdc", vocab, width)


def decoder_layer(name: str, width: int, attentions: list[str], norms: int) -> Lines:
    for attention in attentions:
        yield from multihead(f"{name}.{attention}", width)
    yield from linear(f"{name}.linear1", 4 * width, width)
    yield from linear(f"{name}.linear2", width, 4 * width)
    for number in range(1, norms + 1):
        yield from norm(f"{name}.norm{number}", width)


def fused_encoder(layers: int, width: int, projections: dict[str, int], doubled: bool) -> Lines:
    """`encoder_feat` of RSICCformer and MModalCC; MModalCC's layers hold two of everything."""
    for table in ("w_embedding", "h_embedding"):
        yield f"encoder_feat.{table}.weight", [14, width // 2]
    yield "encoder_feat.embedding_1D.weight", [196, width]
    for name, into in projections.items():
        yield from conv(f"encoder_feat.{name}", width, into)
    for i in range(layers):
        layer = f"encoder_feat.transformer.{i}"
        for attention in ["attention", "attention2"] if doubled else ["attention"]:
            yield from multihead(f"{layer}.{attention}", width)
        for number in range(1, 5 if doubled else 3):
            yield from norm(f"{layer}.norm{number}", width)
        for number in range(1, 5 if doubled else 3):
            out, into = (4 * width, width) if number % 2 else (width, 4 * width)
            yield from linear(f"{layer}.linear{number}", out, into)
        yield from resblock(f"encoder_feat.resblock.{i}", 2 * width)
        yield from norm(f"encoder_feat.LN.{i}", 2 * width)


def mmodalcc(vocab: int) -> Lines:
    for tower in ("encoder_image", "encoder_image2"):
        yield from torchvision_resnet(f"{tower}.net.", (3, 4, 23))
    yield from fused_encoder(2, 512, {"projection": 1024, "projection2": 1024}, doubled=True)
    layer = "decoder.transformer.layers.0"
    attentions = ["self_attn", "multihead_attn", "multihead_attn2"]
    yield from decoder_layer(layer, 1024, attentions, 4)
    for gate, into in (("gate", 2048), ("gate2", 2048), ("gate3", 1024)):
        yield from linear(f"{layer}.{gate}.0", 1024, into)
    yield from words("decoder.", vocab, 1024, 5000)


def rsiccformer(vocab: int) -> Lines:
    yield from torchvision_resnet("encoder_image.net.", (3, 4, 23))
    sizes = {"projection": 1024, "projection2": 768, "projection3": 512, "projection4": 256}
    yield from fused_encoder(3, 512, sizes, doubled=False)
    layer = "decoder.transformer.layers.0"
    attentions = ["self_attn", "self_attn2"]
    attentions += ["multihead_attn", "multihead_attn2", "multihead_attn3"]
    yield from decoder_layer(layer, 1024, attentions, 3)
    for number in (1, 2, 3):
        yield from linear(f"{layer}.fc_alpha{number}", 1024, 2048)
    yield from words("decoder.", vocab, 1024, 5000)


def chg2cap(vocab: int) -> Lines:
    yield from torchvision_resnet("encoder_dict.cnn.", (3, 4, 23, 3))
    for table in ("h_embedding", "w_embedding"):
        yield f"encoder_trans_dict.{table}.weight", [16, 1024]
    for i in range(3):
        for j, width in enumerate((2048, 4096)):
            block = f"encoder_trans_dict.selftrans.{i}.{j}"
            for letter in "qkv":
                yield f"{block}.att.to_{letter}.weight", [2048, width]
            yield from linear(f"{block}.att.to_out.0", width, 2048)
            yield from linear(f"{block}.feedforward.net.0", 512, width)
            yield from linear(f"{block}.feedforward.net.3", width, 512)
            for number in (1, 2):
                yield from norm(f"{block}.norm{number}", width)
    yield from conv("decoder_dict.Conv1", 2048, 4096)
    yield from resblock("decoder_dict.LN", 2048)
    layer = "decoder_dict.transformer.layers.0"
    yield from decoder_layer(layer, 2048, ["self_attn", "multihead_attn"], 3)
    for number in (1, 2, 3):
        yield from linear(f"{layer}.fc_alpha{number}", 2048, 4096)
    yield from words("decoder_dict.", vocab, 2048, 41)


def bert_attention(name: str, kind: str, width: int, into: int) -> Lines:
    yield from linear(f"{name}.{kind}.self.query", width, width)
    yield from linear(f"{name}.{kind}.self.key", width, into)
    yield from linear(f"{name}.{kind}.self.value", width, into)
    yield from linear(f"{name}.{kind}.output.dense", width, width)
    yield from norm(f"{name}.{kind}.output.LayerNorm", width)


def eva_block(name: str, width: int, hidden: int) -> Lines:
    yield from norm(f"{name}.norm1", width)
    yield f"{name}.attn.q_bias", [width]
    yield f"{name}.attn.v_bias", [width]
    yield f"{name}.attn.qkv.weight", [3 * width, width]
    yield from linear(f"{name}.attn.proj", width, width)
    yield from norm(f"{name}.norm2", width)
    yield from linear(f"{name}.mlp.fc1", hidden, width)
    yield from linear(f"{name}.mlp.fc2", width, hidden)


def deltavlm() -> Lines:
    """What DeltaVLM's training saves: parameters that it trains, and buffers.

    hanlinwu/DeltaVLM, 6c9bd60: `runner.py`; names as the parity case of the published modules has
    them, sizes from LAVIS' configurations.
    """
    vision, hidden, width, feed, words = 1408, 6144, 768, 3072, 30523
    yield "query_tokens", [1, 32, width]
    yield "temp", []
    for block in (37, 38):
        yield from eva_block(f"visual_encoder.blocks.{block}", vision, hidden)
    yield from norm("ln_vision", vision)
    yield "Qformer.bert.embeddings.position_ids", [1, 512]
    yield "Qformer.bert.embeddings.word_embeddings.weight", [words, width]
    yield "Qformer.bert.embeddings.position_embeddings.weight", [512, width]
    yield from norm("Qformer.bert.embeddings.LayerNorm", width)
    for layer in range(12):
        name = f"Qformer.bert.encoder.layer.{layer}"
        yield from bert_attention(name, "attention", width, width)
        if layer % 2 == 0:
            yield from bert_attention(name, "crossattention", width, vision)
        for kind in ("", "_query"):
            yield from linear(f"{name}.intermediate{kind}.dense", feed, width)
            yield from linear(f"{name}.output{kind}.dense", width, feed)
            yield from norm(f"{name}.output{kind}.LayerNorm", width)
    yield "context1.weight", [vision, vision]
    yield from linear("context2", vision, vision)
    yield "gate1.weight", [vision, vision]
    yield from linear("gate2", vision, vision)
    yield from linear("context3", vision, 3 * vision)
    yield from linear("llm_proj", 4096, width)
    yield from linear("vision_proj", 256, width)
    yield from linear("text_proj", 256, width)
    for layer in range(32):
        yield f"llm_model.model.layers.{layer}.self_attn.rotary_emb.inv_freq", [64]


def instructblip(width: int) -> Lines:
    """LAVIS' trimmed file of InstructBLIP with Vicuna: what of DeltaVLM's is not its own."""
    for name, shape in deltavlm():
        if name.startswith(("query_tokens", "ln_vision.", "Qformer.")):
            yield name, shape
    yield from linear("llm_proj", width, 768)


def fromage() -> Lines:
    """What FROMAGe's pruning keeps, RS-CapRet's layout as far as it is known.

    kohjingyu/fromage, b36a188: `prune_model_ckpt.py` takes out what belongs to `lm` and
    `visual_model`; the alias of the embedding table stays, cut to the tokenizer's 50,267 words.
    """
    width, vision, shared = 4096, 1024, 256
    yield "model.logit_scale", []
    yield "model.input_embeddings.weight", [50267, width]
    yield from linear("model.text_hidden_fcs.0.0", shared, width)
    yield from linear("model.visual_embeddings", width, vision)
    yield from linear("model.visual_fc", shared, vision)
    yield "ret_input_embeddings.weight", [1, width]


def skyeyegpt() -> Lines:
    """What MiniGPT-v2's training saves: parameters that it trains.

    Vision-CAIR/MiniGPT-4, d94738a; LLaMA-2-7B-chat, LoRA of rank 64. Names of LoRA as peft 0.3 and
    later have them; those of 0.2 lack `default`.
    """
    yield from linear("llama_proj", 4096, 4 * 1408)
    for layer in range(32):
        for letter in "qv":
            name = f"llama_model.base_model.model.model.layers.{layer}.self_attn.{letter}_proj"
            yield f"{name}.lora_A.default.weight", [64, 4096]
            yield f"{name}.lora_B.default.weight", [4096, 64]


def opt(prefix: str, head: str, vocab: int, width: int, feed: int) -> Lines:
    """OPT in transformers' names; the head is the word table once more."""
    yield f"{prefix}.embed_tokens.weight", [vocab, width]
    yield f"{prefix}.embed_positions.weight", [2048 + 2, width]
    yield from norm(f"{prefix}.final_layer_norm", width)
    for i in range(32):
        layer = f"{prefix}.layers.{i}"
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            yield from linear(f"{layer}.self_attn.{name}", width, width)
        yield from norm(f"{layer}.self_attn_layer_norm", width)
        yield from linear(f"{layer}.fc1", feed, width)
        yield from linear(f"{layer}.fc2", width, feed)
        yield from norm(f"{layer}.final_layer_norm", width)
    yield f"{head}.weight", [vocab, width]


def blip2() -> Lines:
    """Salesforce/blip2-opt-2.7b, as transformers holds it; words filled up to a multiple of 64."""
    vision, hidden, width, feed, out = 1408, 6144, 768, 3072, 2560
    yield "query_tokens", [1, 32, width]
    yield "vision_model.embeddings.class_embedding", [1, 1, vision]
    yield "vision_model.embeddings.position_embedding", [1, 257, vision]
    yield "vision_model.embeddings.patch_embedding.weight", [vision, 3, 14, 14]
    yield "vision_model.embeddings.patch_embedding.bias", [vision]
    for block in range(39):
        name = f"vision_model.encoder.layers.{block}"
        yield from linear(f"{name}.self_attn.qkv", 3 * vision, vision)
        yield from linear(f"{name}.self_attn.projection", vision, vision)
        yield from norm(f"{name}.layer_norm1", vision)
        yield from linear(f"{name}.mlp.fc1", hidden, vision)
        yield from linear(f"{name}.mlp.fc2", vision, hidden)
        yield from norm(f"{name}.layer_norm2", vision)
    yield from norm("vision_model.post_layernorm", vision)
    yield from norm("qformer.layernorm", width)
    for layer in range(12):
        name = f"qformer.encoder.layer.{layer}"
        for kind in ("attention", "crossattention") if layer % 2 == 0 else ("attention",):
            into = vision if kind == "crossattention" else width
            yield from linear(f"{name}.{kind}.attention.query", width, width)
            yield from linear(f"{name}.{kind}.attention.key", width, into)
            yield from linear(f"{name}.{kind}.attention.value", width, into)
            yield from linear(f"{name}.{kind}.output.dense", width, width)
            yield from norm(f"{name}.{kind}.output.LayerNorm", width)
        yield from linear(f"{name}.intermediate_query.dense", feed, width)
        yield from linear(f"{name}.output_query.dense", width, feed)
        yield from norm(f"{name}.output_query.LayerNorm", width)
    yield from linear("language_projection", out, width)
    yield from opt("language_model.model.decoder", "language_model.lm_head", 50304, out, 4 * out)


def blip2_lavis() -> Lines:
    """What LAVIS' tuning of BLIP-2 with OPT-6.7B on COCO's captions saves, at 364 px.

    salesforce/LAVIS, `blip2_opt.py`: the tower is trained, OPT is not; the file of the second stage
    (`blip2_pretrained_opt*.pth`) has the same names without `visual_encoder`.
    """
    vision, hidden, width, feed = 1408, 6144, 768, 3072
    yield "query_tokens", [1, 32, width]
    yield "visual_encoder.cls_token", [1, 1, vision]
    yield "visual_encoder.pos_embed", [1, 26 * 26 + 1, vision]
    yield "visual_encoder.patch_embed.proj.weight", [vision, 3, 14, 14]
    yield "visual_encoder.patch_embed.proj.bias", [vision]
    for block in range(39):
        yield from eva_block(f"visual_encoder.blocks.{block}", vision, hidden)
    yield from norm("ln_vision", vision)
    yield "Qformer.bert.embeddings.position_ids", [1, 512]
    yield from norm("Qformer.bert.embeddings.LayerNorm", width)
    for layer in range(12):
        name = f"Qformer.bert.encoder.layer.{layer}"
        yield from bert_attention(name, "attention", width, width)
        if layer % 2 == 0:
            yield from bert_attention(name, "crossattention", width, vision)
        yield from linear(f"{name}.intermediate_query.dense", feed, width)
        yield from linear(f"{name}.output_query.dense", width, feed)
        yield from norm(f"{name}.output_query.LayerNorm", width)
    yield from linear("opt_proj", 4096, width)


def rs5m_captioner() -> Lines:
    """RS5M's adapter over Salesforce/blip2-opt-6.7b, as peft writes one of its configuration."""
    for block in range(39):
        for name, out in (("qkv", 3 * 1408), ("projection", 1408)):
            layer = f"base_model.model.vision_model.encoder.layers.{block}.self_attn.{name}"
            yield f"{layer}.lora_A.weight", [16, 1408]
            yield f"{layer}.lora_B.weight", [out, 16]


def clip_tower(prefix: str) -> Lines:
    """transformers' CLIPVisionModel of ViT-L/14 at 336 px."""
    _, image, patch, width, layers, _, _ = VITS["L-14-336"]
    yield f"{prefix}.embeddings.class_embedding", [width]
    yield f"{prefix}.embeddings.patch_embedding.weight", [width, 3, patch, patch]
    yield f"{prefix}.embeddings.position_embedding.weight", [(image // patch) ** 2 + 1, width]
    yield from norm(f"{prefix}.pre_layrnorm", width)
    yield from hf_tower(prefix, width, layers)
    yield from norm(f"{prefix}.post_layernorm", width)


def llama(prefix: str, head: str, vocab: int) -> Lines:
    """LLaMA-7B and Vicuna-7B in transformers' names."""
    width, feed = 4096, 11008
    yield f"{prefix}.embed_tokens.weight", [vocab, width]
    for i in range(32):
        layer = f"{prefix}.layers.{i}"
        for letter in "qkvo":
            yield f"{layer}.self_attn.{letter}_proj.weight", [width, width]
        for name in ("gate", "up"):
            yield f"{layer}.mlp.{name}_proj.weight", [feed, width]
        yield f"{layer}.mlp.down_proj.weight", [width, feed]
        yield f"{layer}.input_layernorm.weight", [width]
        yield f"{layer}.post_attention_layernorm.weight", [width]
    yield f"{prefix}.norm.weight", [width]
    yield f"{head}.weight", [vocab, width]


def llava() -> Lines:
    """haotian-liu/LLaVA, c121f04: LLaVA-1.5-7B with its image tower."""
    yield from llama("model", "lm_head", 32000)
    yield from clip_tower("model.vision_tower.vision_tower.vision_model")
    yield from linear("model.mm_projector.0", 4096, 1024)
    yield from linear("model.mm_projector.2", 4096, 4096)


def llava_hf() -> Lines:
    """llava-hf's files: the script that wrote them fills the word tables up to 32,064 rows."""
    yield from llama("language_model.model", "language_model.lm_head", 32064)
    yield from clip_tower("vision_tower.vision_model")
    yield from linear("multi_modal_projector.linear_1", 4096, 1024)
    yield from linear("multi_modal_projector.linear_2", 4096, 4096)


#: Segment Anything: width, layers, heads, and the layers that attend over the whole image.
SAMS = {
    "sam_vit_b": (768, 12, 12, (2, 5, 8, 11)),
    "sam_vit_l": (1024, 24, 16, (5, 11, 17, 23)),
    "sam_vit_h": (1280, 32, 16, (7, 15, 23, 31)),
}


def sam_encoder(prefix: str, size: str) -> Lines:
    """facebookresearch/segment-anything: the image encoder at 1,024 px."""
    width, layers, heads, whole = SAMS[size]
    yield f"{prefix}pos_embed", [1, 64, 64, width]
    yield f"{prefix}patch_embed.proj.weight", [width, 3, 16, 16]
    yield f"{prefix}patch_embed.proj.bias", [width]
    for i in range(layers):
        block, side = f"{prefix}blocks.{i}", 64 if i in whole else 14
        yield from norm(f"{block}.norm1", width)
        yield f"{block}.attn.rel_pos_h", [2 * side - 1, width // heads]
        yield f"{block}.attn.rel_pos_w", [2 * side - 1, width // heads]
        yield from linear(f"{block}.attn.qkv", 3 * width, width)
        yield from linear(f"{block}.attn.proj", width, width)
        yield from norm(f"{block}.norm2", width)
        yield from linear(f"{block}.mlp.lin1", 4 * width, width)
        yield from linear(f"{block}.mlp.lin2", width, 4 * width)
    yield from sam_neck(f"{prefix}neck", width)


def sam_neck(name: str, into: int) -> Lines:
    yield f"{name}.0.weight", [256, into, 1, 1]
    yield from norm(f"{name}.1", 256)
    yield f"{name}.2.weight", [256, 256, 3, 3]
    yield from norm(f"{name}.3", 256)


def sam_prompts(prefix: str) -> Lines:
    yield f"{prefix}pe_layer.positional_encoding_gaussian_matrix", [2, 128]
    for i in range(4):
        yield f"{prefix}point_embeddings.{i}.weight", [1, 256]
    yield f"{prefix}not_a_point_embed.weight", [1, 256]
    for place, out, into, side in ((0, 4, 1, 2), (3, 16, 4, 2), (6, 256, 16, 1)):
        yield from conv(f"{prefix}mask_downscaling.{place}", out, into, side)
        if place < 6:
            yield from norm(f"{prefix}mask_downscaling.{place + 1}", out)
    yield f"{prefix}no_mask_embed.weight", [1, 256]


def two_way(prefix: str) -> Lines:
    def attention(name: str, inner: int) -> Lines:
        for letter in "qkv":
            yield from linear(f"{name}.{letter}_proj", inner, 256)
        yield from linear(f"{name}.out_proj", 256, inner)

    for i in range(2):
        layer = f"{prefix}layers.{i}"
        yield from attention(f"{layer}.self_attn", 256)
        yield from attention(f"{layer}.cross_attn_token_to_image", 128)
        yield from attention(f"{layer}.cross_attn_image_to_token", 128)
        yield from linear(f"{layer}.mlp.lin1", 2048, 256)
        yield from linear(f"{layer}.mlp.lin2", 256, 2048)
        for k in range(1, 5):
            yield from norm(f"{layer}.norm{k}", 256)
    yield from attention(f"{prefix}final_attn_token_to_image", 128)
    yield from norm(f"{prefix}norm_final_attn", 256)


def sam_decoder(prefix: str, scales: int = 1) -> Lines:
    """SAM's, or with scales PixelLM's."""

    def up(name: str, into: int, out: int) -> Lines:
        yield f"{name}.weight", [into, out, 2, 2]
        yield f"{name}.bias", [out]

    for i in range(scales):
        yield from two_way(f"{prefix}transformer." + (f"{i}." if scales > 1 else ""))
    yield f"{prefix}iou_token.weight", [1, 256]
    yield f"{prefix}mask_tokens.weight", [4, 256]
    first = 64 if scales == 1 else 32
    yield from up(f"{prefix}output_upscaling.0", 256, first)
    yield from norm(f"{prefix}output_upscaling.1", first)
    if scales == 1:
        yield from up(f"{prefix}output_upscaling.3", 64, 32)
    else:
        yield from up(f"{prefix}upsample_2x.0", 256, 256)
        yield from norm(f"{prefix}upsample_2x.1", 256)
        yield f"{prefix}pe1.positional_encoding_gaussian_matrix", [2, 128]
        yield f"{prefix}level_embed.weight", [scales, 256]
    for i in range(4):
        for k, out in enumerate((256, 256, 32)):
            yield from linear(f"{prefix}output_hypernetworks_mlps.{i}.layers.{k}", out, 256)
    for k, out in enumerate((256, 256, 4)):
        yield from linear(f"{prefix}iou_prediction_head.layers.{k}", out, 256)


def sam(size: str, prefix: str = "") -> Lines:
    """One of SAM's own files."""
    yield from sam_encoder(f"{prefix}image_encoder.", size)
    yield from sam_prompts(f"{prefix}prompt_encoder.")
    yield from sam_decoder(f"{prefix}mask_decoder.")


def text_fcs(prefix: str) -> Lines:
    yield from linear(f"{prefix}0", 4096, 4096)
    yield from linear(f"{prefix}2", 256, 4096)


def lisa() -> Lines:
    """dvlab-research/LISA 3cb2d43, a merged 7B folder: [SEG] and two marks behind 32,000 words."""
    yield from llama("model", "lm_head", 32003)
    yield from linear("model.mm_projector", 4096, 1024)
    yield from sam("sam_vit_h", "model.visual_model.")
    yield from text_fcs("model.text_hidden_fcs.0.")


def pixellm() -> Lines:
    """MaverickRen/PixelLM ebf0792, a merged 7B folder: eight words behind 32,000."""
    yield from llama("model", "lm_head", 32008)
    for name in ("mm_projector", "out_mm_projector"):
        yield from linear(f"model.{name}.0", 8192, 1024)
        yield from linear(f"model.{name}.2", 4096, 8192)
    yield from sam_prompts("model.prompt_encoder.")
    yield from sam_decoder("model.mask_decoder.", 2)
    yield from sam_neck("model.image_feature_neck", 4096)
    yield from text_fcs("model.text_hidden_fcs.0.")


def geopix_memory(prefix: str) -> Lines:
    for i, (into, out) in enumerate(((1, 16), (16, 32), (32, 64)), 1):
        layer = f"{prefix}memory_encoder.mask_downsampler.layer{i}"
        for name, a, side in (("conv1", into, 3), ("conv2", out, 3), ("downsample.0", into, 1)):
            yield f"{layer}.{name}.weight", [out, a, side, side]
        for name in ("bn1", "bn2", "downsample.1"):
            yield from batch_norm(f"{layer}.{name}", out)
    yield from conv(f"{prefix}memory_encoder.pix_feat_proj", 64, 256)
    fuser = f"{prefix}memory_encoder.fuser"
    yield f"{fuser}.gate", [64]
    yield f"{fuser}.dwconv.weight", [64, 1, 7, 7]
    yield f"{fuser}.dwconv.bias", [64]
    yield from norm(f"{fuser}.norm", 64)
    yield from linear(f"{fuser}.pwconv1", 256, 64)
    yield from linear(f"{fuser}.pwconv2", 64, 256)
    yield f"{prefix}learnable_memory.memory", [75, 2, 64, 64, 32, 32]
    for place, into, out in ((0, 64, 32), (3, 32, 16), (6, 16, 1)):
        yield f"{prefix}memory_fuser.model.{place}.weight", [out, into, 1, 1, 1]
        yield f"{prefix}memory_fuser.model.{place}.bias", [out]
        yield from batch_norm(f"{prefix}memory_fuser.model.{place + 1}", out)
    layer = f"{prefix}memory_attention.layers.0"
    yield f"{layer}.scale", [256]
    yield from multihead(f"{layer}.self_attn", 256)
    yield f"{layer}.self_attn_pos.pe", [1, 5000, 256]
    for letter, width in (("q", 256), ("k", 64), ("v", 64)):
        yield f"{layer}.cross_attn_image.{letter}_proj_weight", [256, width]
    yield f"{layer}.cross_attn_image.in_proj_bias", [768]
    yield from linear(f"{layer}.cross_attn_image.out_proj", 256, 256)
    yield f"{layer}.cross_attn_image_pos.pe", [1, 5000, 64]
    yield from linear(f"{layer}.linear1", 512, 256)
    yield from linear(f"{layer}.linear2", 256, 512)
    for k in (1, 2, 3):
        yield from norm(f"{layer}.norm{k}", 256)
    yield from norm(f"{prefix}memory_attention.norm", 256)


def geopix() -> Lines:
    """Norman-Ou/GeoPix 4ae9a35: a folder of parts, folder or file in front of each name."""
    for name, shape in llava_hf():
        yield f"vlm.{name}", shape
    yield from sam_decoder("seg.mask_decoder.", 2)
    yield from sam_prompts("pec.prompt_encoder.")
    yield from geopix_memory("clm.")
    for name in ("rough", "detail"):
        for k, into, out in ((1, 1024, 512), (2, 512, 256)):
            yield from conv(f"image_neck_{name}.conv{k}.0", out, into, 3)
            yield from batch_norm(f"image_neck_{name}.conv{k}.1", out)
    yield from text_fcs("text_hidden_fcs.")
    for i in range(3):
        yield f"multiseg_scalar.{i}", []
    for i in range(2):
        yield f"multiscale_scalar.{i}", []


def write(folder: Path, name: str, lines: Lines, prefix: str = "") -> None:
    text = "".join(f"{prefix}{key} {json.dumps(shape)}\n" for key, shape in lines)
    (folder / f"{name}.txt").write_text(text, encoding="utf-8")


def main(folder: Path) -> None:
    for name, (arch, prefix) in MANIFESTS.items():
        write(folder, name, open_clip(arch), prefix)
    for name, arch in HF_MANIFESTS.items():
        write(folder, name, hf_clip(arch))
    for name, vocab in CHANGE_MANIFESTS.items():
        write(folder, name, globals()[name](vocab))
    write(folder, "deltavlm", deltavlm())
    write(folder, "skyeyegpt", skyeyegpt())
    write(folder, "llava", llava())
    write(folder, "geopix", geopix())
    write(folder, "lisa_7b", lisa())
    write(folder, "pixellm_7b", pixellm())
    for size in SAMS:
        write(folder, size, sam(size))
    write(folder, "llava.hf", llava_hf())
    write(folder, "fromage", fromage())
    write(folder, "instructblip_7b", instructblip(4096))
    write(folder, "instructblip_13b", instructblip(5120))
    write(folder, "blip2", blip2())
    write(folder, "blip2.lavis", blip2_lavis())
    write(folder, "blip2.rs5m", rs5m_captioner())


if __name__ == "__main__":
    main(Path(__file__).parent)
