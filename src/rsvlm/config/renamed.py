"""Words of configurations as older versions wrote them, and today's.

A run or a checkpoint of an older version loads where the mapping is exact; where a word went
without a successor, the error names it and the version that knew it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rsvlm.errors import UserError

#: Targets of 0.1.0 and where they are since 0.2.0.
TARGETS: dict[str, str] = {
    "rsvlm.data.corruptions.Robustness": "rsvlm.data.loading.corruptions.Robustness",
    "rsvlm.data.datasets.coco.VHR10": "rsvlm.data.datasets.cards.VHR10",
    "rsvlm.data.datasets.geochat_instruct.GeoChatInstruct": "rsvlm.data.datasets.cards.GeoChatInstruct",
    "rsvlm.data.datasets.georsclip_eval.GeoRSCLIPEval": "rsvlm.data.datasets.cards.GeoRSCLIPEval",
    "rsvlm.data.datasets.joined.Joined": "rsvlm.data.datasets.concat.ConcatDataset",
    "rsvlm.data.datasets.levir_cc.LevirCC": "rsvlm.data.datasets.cards.LevirCC",
    "rsvlm.data.datasets.remoteclip.RemoteCLIPPairs": "rsvlm.data.datasets.cards.RemoteCLIPPairs",
    "rsvlm.data.datasets.rsgpt4v.RSGPT4V": "rsvlm.data.datasets.cards.RSGPT4V",
    "rsvlm.data.datasets.rsicd.RSICD": "rsvlm.data.datasets.cards.RSICD",
    "rsvlm.data.datasets.rsitmd.RSITMD": "rsvlm.data.datasets.cards.RSITMD",
    "rsvlm.data.datasets.rsvqa.RSVQAHR": "rsvlm.data.datasets.cards.RSVQAHR",
    "rsvlm.data.datasets.rsvqa.RSVQALR": "rsvlm.data.datasets.cards.RSVQALR",
    "rsvlm.data.datasets.skyscript.SkyScriptRetrieval": "rsvlm.data.datasets.cards.SkyScriptRetrieval",
    "rsvlm.data.datasets.sydney_captions.SydneyCaptions": "rsvlm.data.datasets.cards.SydneyCaptions",
    "rsvlm.data.datasets.ucm_captions.UCMCaptions": "rsvlm.data.datasets.cards.UCMCaptions",
    "rsvlm.data.mixture.Mixture": "rsvlm.data.loading.mixture.Mixture",
    "rsvlm.data.scenes.Scenes": "rsvlm.synthetic.Scenes",
    "rsvlm.data.vocabulary.read_words": "rsvlm.data.text.vocabulary.read_words",
    "rsvlm.encoders.clip.clip": "rsvlm.encoders.clip.model.clip",
    "rsvlm.encoders.clip_patches.ClipPatches": "rsvlm.encoders.clip.patches.ClipPatches",
    "rsvlm.encoders.clip_pooled.ClipPooled": "rsvlm.encoders.clip.pooled.ClipPooled",
    "rsvlm.encoders.image_text.ImageTextModel": "rsvlm.encoders.hf_vlm.ImageTextModel",
    "rsvlm.lit.binary.BinaryEvaluation": "rsvlm.evaluation.binary_classification.BinaryEvaluation",
    "rsvlm.lit.captioning.CaptionEvaluation": "rsvlm.evaluation.captions.CaptionEvaluation",
    "rsvlm.lit.captioning.ChangeEvaluation": "rsvlm.evaluation.captions.ChangeEvaluation",
    "rsvlm.lit.change_chat.ChangeTaskEvaluation": "rsvlm.evaluation.change_chat.ChangeTaskEvaluation",
    "rsvlm.lit.change_chat.DialogueEvaluation": "rsvlm.evaluation.change_chat.DialogueEvaluation",
    "rsvlm.lit.change_chat.OpenEvaluation": "rsvlm.evaluation.change_chat.OpenEvaluation",
    "rsvlm.lit.counting.RemoteCountEvaluation": "rsvlm.evaluation.remotecount.RemoteCountEvaluation",
    "rsvlm.lit.data.DataModule": "rsvlm.lit.datamodule.DataModule",
    "rsvlm.lit.detection.DetectionEvaluation": "rsvlm.evaluation.detection.DetectionEvaluation",
    "rsvlm.lit.evaluation.RetrievalEvaluation": "rsvlm.evaluation.retrieval.RetrievalEvaluation",
    "rsvlm.evaluation.clip.RetrievalEvaluation": "rsvlm.evaluation.retrieval.RetrievalEvaluation",
    "rsvlm.lit.evaluation.ZeroShotEvaluation": "rsvlm.evaluation.clip.ZeroShotEvaluation",
    "rsvlm.lit.grounding.GroundingEvaluation": "rsvlm.evaluation.grounding.GroundingEvaluation",
    "rsvlm.lit.localisation.LocalisationEvaluation": "rsvlm.evaluation.semantic_localisation.LocalisationEvaluation",
    "rsvlm.lit.naming.NamingEvaluation": "rsvlm.evaluation.region_recognition.NamingEvaluation",
    "rsvlm.lit.naming.TextEvaluation": "rsvlm.evaluation.region_recognition.TextEvaluation",
    "rsvlm.lit.patience.Patience": "rsvlm.lit.early_stopping.PlateauDecayAndStop",
    "rsvlm.lit.probing.LinearProbeEvaluation": "rsvlm.evaluation.probes.LinearProbeEvaluation",
    "rsvlm.lit.probing.NeighboursEvaluation": "rsvlm.evaluation.probes.NeighboursEvaluation",
    "rsvlm.lit.rsieval.RSIEvalEvaluation": "rsvlm.evaluation.rsieval.RSIEvalEvaluation",
    "rsvlm.lit.sources.Sources": "rsvlm.lit.mixture_logging.MixtureLogger",
    "rsvlm.lit.vqa.VQAEvaluation": "rsvlm.evaluation.vqa.VQAEvaluation",
    "rsvlm.models.blip2.BLIP2": "rsvlm.models.blip2.model.BLIP2",
    "rsvlm.models.chg2cap.Chg2Cap": "rsvlm.models.change_captioning.chg2cap.Chg2Cap",
    "rsvlm.models.deltavlm.DeltaVLM": "rsvlm.models.deltavlm.model.DeltaVLM",
    "rsvlm.models.hf_vlm.HFVLM": "rsvlm.models.hf_vlm.model.HFVLM",
    "rsvlm.models.llava.LLaVA": "rsvlm.models.llava.model.LLaVA",
    "rsvlm.models.mmodalcc.MModalCC": "rsvlm.models.change_captioning.mmodalcc.MModalCC",
    "rsvlm.models.rscapret.RSCapRet": "rsvlm.models.rscapret.model.RSCapRet",
    "rsvlm.models.rsiccformer.RSICCformer": "rsvlm.models.change_captioning.rsiccformer.RSICCformer",
    "rsvlm.models.skyeyegpt.SkyEyeGPT": "rsvlm.models.skyeyegpt.model.SkyEyeGPT",
    "rsvlm.nn.bridges.GroupedLinear": "rsvlm.nn.projectors.GroupedLinear",
    "rsvlm.nn.bridges.MlpProjector": "rsvlm.nn.projectors.MlpProjector",
    "rsvlm.nn.bridges.QFormerBridge": "rsvlm.nn.projectors.QFormerBridge",
    "rsvlm.nn.caption_map.CaptionMap": "rsvlm.models.rscapret.projector.LinearProjector",
    "rsvlm.nn.contrast_head.ContrastHead": "rsvlm.models.deltavlm.contrastive_head.ContrastiveHead",
    "rsvlm.nn.delta_qformer.DeltaQFormer": "rsvlm.models.deltavlm.bridge.DeltaQFormer",
    "rsvlm.nn.mask_branch.MaskBranch": "rsvlm.models.deltavlm.mask_head.MaskHead",
    "rsvlm.lit.loggers.CSVLog": "rsvlm.lit.loggers.CSVLogger",
    "rsvlm.lit.loggers.wandb_log": "rsvlm.lit.loggers.wandb_logger",
    "rsvlm.lit.optim.stairs": "rsvlm.lit.optim.step_decay",
    "rsvlm.nn.semantic.Segmenter": "rsvlm.models.change_captioning.segmenter.Segmenter",
}

#: Functions of 0.1.0 that were CLIPs of one architecture, which the configuration says now.
CLIPS: dict[str, str] = {
    "rsvlm.models.openai_clip.clip_mini": "mini",
    "rsvlm.models.openai_clip.clip_rn50": "RN50",
    "rsvlm.models.openai_clip.clip_small": "small",
    "rsvlm.models.openai_clip.clip_tiny": "tiny",
    "rsvlm.models.openai_clip.clip_vitb16": "ViT-B-16",
    "rsvlm.models.openai_clip.clip_vitb32": "ViT-B-32",
    "rsvlm.models.openai_clip.clip_vith14": "ViT-H-14",
    "rsvlm.models.openai_clip.clip_vitl14": "ViT-L-14",
    "rsvlm.models.openai_clip.clip_vitl14_336": "ViT-L-14-336",
    "rsvlm.models.gaia_clip.gaiaclip_vitb32": "ViT-B-32",
    "rsvlm.models.georsclip.georsclip_vitb32": "ViT-B-32",
    "rsvlm.models.georsclip.georsclip_vith14": "ViT-H-14",
    "rsvlm.models.georsclip.georsclip_vitl14": "ViT-L-14",
    "rsvlm.models.georsclip.georsclip_vitl14_336": "ViT-L-14-336",
    "rsvlm.models.remoteclip.remoteclip_rn50": "RN50",
    "rsvlm.models.remoteclip.remoteclip_vitb32": "ViT-B-32",
    "rsvlm.models.remoteclip.remoteclip_vitl14": "ViT-L-14",
    "rsvlm.models.skyclip.skyclip_vitb32": "ViT-B-32",
    "rsvlm.models.skyclip.skyclip_vitl14": "ViT-L-14",
}

#: Keys by their end, and the word since then.
KEYS: dict[str, str] = {
    "model.wording": "model.instructions",
}

#: Targets without a successor, and what to do.
GONE: dict[str, str] = {}


def current(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A configuration in today's words.

    Args:
        config: plain values, as some version wrote them.
        where: the file, for errors.

    Raises:
        UserError: it names something that is gone.
    """
    out = _rename(config, "", where)
    assert isinstance(out, dict)
    return out


def _rename(value: Any, path: str, where: str) -> Any:
    if isinstance(value, list):
        return [_rename(inner, f"{path}[]", where) for inner in value]
    if not isinstance(value, Mapping):
        return value
    out: dict[str, Any] = {}
    for key, inner in value.items():
        word = KEYS.get(f"{path}.{key}".lstrip("."), "").rpartition(".")[2] or str(key)
        if key == "_target_" and isinstance(inner, str):
            if inner in GONE:
                raise UserError(f"{where}: {path} names {inner} of rsvlm 0.1.0. {GONE[inner]}")
            if inner in CLIPS:
                out["arch"], inner = CLIPS[inner], "rsvlm.encoders.clip.model.clip"
            inner = TARGETS.get(inner, inner)
        out[word] = _rename(inner, f"{path}.{key}".lstrip("."), where)
    return out
