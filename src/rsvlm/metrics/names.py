"""The fixed words that metric names are made of.

A result is called `<stage>/<data set>/<protocol>/<metric>`, as in `val/rsicd/remoteclip/i2t_r1`,
and a value of the training loop `<stage>/<word>`, as in `train/loss`. Recall under one protocol
is not recall under another, so a name without its protocol does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from rsvlm.errors import near
from rsvlm.metrics.metric_definitions import METRICS

STAGES = ("train", "val", "test")

#: Words of the loop itself: `<stage>/<word>`.
SCALARS: dict[str, str] = {
    "loss": "the sum that is minimised",
    "contrastive": "symmetric InfoNCE",
    "siglip": "pairwise sigmoid loss",
    "caption": "cross entropy of a caption's words",
    "text": "cross entropy of a text alone, up to its [RET]",
    "semantic": "cross entropy of the pixels of semantic maps",
    "answer": "cross entropy of an answer's tokens",
    "contrast": "which answer belongs to which pair",
    "balance": "load-balancing term of a mixture of experts",
    "most_used_expert": "largest mean share of an expert, by a router that learns",
    "change_mask": "binary cross entropy of a change mask's pixels",
    "logit_scale": "the temperature's inverse, after exp",
    "logit_bias": "bias of the pairwise sigmoid loss",
    "lr": "learning rate of the first parameter group",
    "grad_norm": "norm of the gradient before clipping",
    "pairs_per_second": "image-text pairs a second, all ranks together",
    "samples_per_second": "samples a second, all ranks together",
    "data_fraction": "share of the step's time spent waiting for data",
    "peak_memory_gib": "most memory held on the device, GiB",
    "truncated": "captions cut at the context length",
    "skipped": "samples left out because they could not be read",
}


_RULE_A = (
    "each template's embedding to unit length, mean, unit length (open_clip's and SkyScript's rule)"
)
_RULE_B = "mean of the raw template embeddings, then unit length (ITRA's and GeoRSCLIP's rule)"

#: task -> protocol word -> what it stands for; the report prints these lines.
PROTOCOLS: dict[str, dict[str, str]] = {
    "retrieval": {
        "remoteclip": (
            "Retrieval as RemoteCLIP counts it: every caption is kept, asked with a capital and "
            "small letters behind it, and an image's only positives are its own captions, even "
            "where another image has the same sentence; recall at 1, 5 and 10 in each direction; "
            "mean_recall is the mean of the six."
        ),
        "rs5m": "As remoteclip, captions asked as they stand (GeoRSCLIP's evaluation on RS5M).",
        "skyscript": (
            "Retrieval as SkyScript counts it: each distinct sentence once, with the prefix "
            "'a satellite image. ' (none on SkyScript's own captions), and every image that has "
            "the sentence is a positive; recall at 1, 5, 10 and 100; the mean of 1, 5 and 10 is "
            "given per direction."
        ),
    },
    "classification": {
        "skyscript": f"Zero-shot with SkyScript's two templates; {_RULE_A}.",
        "georsclip": f"Zero-shot with GeoRSCLIP's 105 templates; {_RULE_B}.",
        "remoteclip": "Zero-shot with RemoteCLIP's single template.",
        "normalised_mean": f"Zero-shot; {_RULE_A}.",
        "mean": f"Zero-shot; {_RULE_B}.",
        "custom_normalised_mean": f"Zero-shot with the templates of the configuration; {_RULE_A}.",
        "custom_mean": f"Zero-shot with the templates of the configuration; {_RULE_B}.",
        "binary": (
            "Each class on its own, with SkyScript's two templates: the best F1 over 101 "
            "thresholds on the cosine, the mean over classes."
        ),
        "linear_probe": (
            "One linear layer on frozen features: SGD, learning rate 0.8, cosine, weight decay "
            "4e-5, 1,000 epochs in batches of 10,000 (RemoteCLIP); the last epoch counts."
        ),
        "knn": "Weighted vote of the 20 nearest training features, temperature 0.07 (RemoteCLIP).",
        "custom_linear_probe": "A linear layer on frozen features, with other numbers.",
        "custom_knn": "Weighted vote of training features, with other numbers.",
        "custom_binary": "As `binary`, with the templates or the rule of the configuration.",
        "remotecount": (
            "RemoteCount: the caption with each of 'one' to 'ten' in the number's place; the most "
            "similar one is the answer."
        ),
        "remotecount_digits": "RemoteCount with '1' to '10' in place of the words.",
    },
    "class_answers": {
        "rs_rag": (
            "Answers equal to the class but for case and outer spaces; every question with a class "
            "counts, also one whose class is none of the list (RS-RAG's script)."
        ),
    },
    "knowledge": {
        "passages": (
            "A fact is a number, a name, or an answer of at most six words; it counts where its "
            "words stand in a row in a passage that the model was given, in any case (ours)."
        ),
    },
    "selo": {
        "selo": "Semantic localisation on the probability map as computed, in 8 bits.",
        "selo_jpeg": (
            "Semantic localisation as published: windows and probability map go through JPEG."
        ),
    },
    "captions": {
        "coco": (
            "Captions as pycocoevalcap 1.2 scores them: PTB tokens without punctuation, BLEU over "
            "the corpus, METEOR 1.5 from corpus statistics, ROUGE-L with beta 1.2, CIDEr-D, SPICE."
        ),
        "nltk": (
            "Captions as NLTK scripts score them: lower-case words between spaces (METEOR lowers "
            "them itself) with their punctuation, corpus_bleu without smoothing, the mean of "
            "NLTK's METEOR, and rouge_score's F1 of the best reference, without stemming."
        ),
        "earthdial": (
            "Captions as EarthDial's script scores them: rouge_score's F1 with stemming averaged "
            "over the references, and the mean of NLTK's METEOR; no BLEU, no CIDEr."
        ),
        "rs_rag": (
            "Captions as RS-RAG's script scores them: words between spaces as written, the mean of "
            "NLTK's sentence BLEU with smoothing method1 (BLEU-3 with weights 0.33), of its METEOR "
            "and of rouge_score's stemmed F1, and CIDEr-D of the raw text; made for one reference; "
            "empty answers count as empty, which the script leaves out."
        ),
        "rs_rag_released": "As rs_rag, without empty answers, as the script leaves them out.",
        "rs_rag_answers": "As rs_rag, of answers to questions, each question an item.",
        "rs_rag_answers_released": (
            "As rs_rag_answers, without empty answers, as RS-RAG's script leaves them out."
        ),
        "token_ids": (
            "Captions as the change captioning codes score them: COCO's formulas on strings of "
            "word numbers, without PTB, so that METEOR knows no stems and synonyms and unknown "
            "words match each other."
        ),
        "open_questions": (
            "Answers to open questions as DeltaVLM's notebook scores them: token_ids with one "
            "reference, taken as written, so that its capitals and full stops make unknown words."
        ),
        "coco_regions": "As coco, of what stands in a box ([identify]), each box an item.",
        "coco_details": "As coco, of detailed descriptions, each question an item.",
        "dialogue_released": (
            "token_ids of the last answer of ChangeChat's dialogue as DeltaVLM's notebook leads "
            "it: a caption decides whether anything changed; only then the counts are asked, "
            "behind a first answer that is always 'Yes', and then the description; unchanged "
            "pairs get the sentence 'there is no difference'."
        ),
        "dialogue_free": (
            "token_ids of the last answer of ChangeChat's dialogue, each question behind the "
            "model's own answers to those before it."
        ),
    },
    "change_flags": {
        "dialogue_free": "As yes_no, of the first answer of a dialogue.",
        "levir_cc": (
            "Changed or not, from captions: unchanged are those that equal one of LEVIR-CC's five "
            "sentences (DeltaVLM's classification table)."
        ),
        "second_cc": (
            "Changed or not, from captions: unchanged are those that equal one of SECOND-CC's five "
            "sentences, two of which are worded otherwise than LEVIR-CC's."
        ),
        "scenes": "Changed or not, from captions, by the generated world's sentences.",
        "custom_templates": "Changed or not, from captions, by sentences of your own.",
        "yes_no": (
            "Changed or not, from answers that begin with yes or no; any other answer is wrong "
            "and counted in change_unparsable."
        ),
    },
    "change_counts": {
        "dialogue_released": "As published, of the second answer of a dialogue_released.",
        "dialogue_free": "As published, of the second answer of a dialogue_free.",
        "published": (
            "Changed roads and buildings as DeltaVLM's notebook reads them: the answer split at "
            "'new', 'no' within a part is zero (in 'now' too), else its first number; what makes "
            "the notebook stop counts as an answer of zero."
        ),
        "robust": (
            "Changed roads and buildings read by the number that belongs to each word, in digits "
            "or letters; an answer without any counts as zero."
        ),
    },
    "change_locations": {
        "published": (
            "Cells of a 3 x 3 grid as DeltaVLM's notebook reads them: Python lists behind 'roads' "
            "and 'buildings'; Jaccard of two empty sets is 0 (scikit-learn's)."
        ),
        "robust": (
            "Cells of a 3 x 3 grid: the cells' names behind each word, however they are "
            "punctuated; Jaccard of two empty sets is 1."
        ),
    },
    "vqa": {
        "exact": "Answers equal but for case and outer spaces; every type of question (RS-RAG).",
        "evalai": (
            "Answers equal after VQA's EvalAI normalisation: case, punctuation, articles, number "
            "words, contractions; every type of question."
        ),
        "published": (
            "Answers equal as classes of the data set's own vocabulary: RSVQA-LR's counts and "
            "RSVQA-HR's areas fall into five bins each; every type of question (RSVQA)."
        ),
        "lhrs": (
            "EvalAI normalisation, without count and area questions (LHRS-Bot); answers must be "
            "equal, where the script takes any part of the right one, an empty one too."
        ),
        "vhm": (
            "Answers equal but for case and all spaces, without count and area questions (VHM, "
            "RSEvalKit); the script takes any part of the right one, an empty one too."
        ),
    },
    "grounding": {
        "rsvg": (
            "Upright boxes, area as width times height, accurate from the threshold on (DIOR-RSVG)."
        ),
        "minigpt": (
            "Upright boxes counted in whole pixels, both ends included (+1), accurate above the "
            "threshold (MiniGPT-v2's eval_ref, SkyEyeGPT)."
        ),
        "oriented": "Turned boxes by the exact IoU of their polygons, from the threshold on.",
    },
    "pointing": {
        "inside": (
            "The first point of an answer, or the centre of its first box, lies in the true box, "
            "its edges included; a turned box by its own sides."
        ),
    },
    "detection": {
        "one_to_one": (
            "Upright boxes of one question, paired one to one with the true ones, from IoU 0.5 on "
            "(ours: the papers show pictures)."
        ),
        "one_to_one_oriented": "As one_to_one, turned boxes by the IoU of their polygons.",
    },
    "naming": {
        "same": "The true answer after VQA's EvalAI normalisation (ours).",
        "within": "The object's class as whole words somewhere in the answer (ours).",
    },
    "segmentation": {
        "rmsin": (
            "One mask per expression at 480 x 480 px; IoU of two empty masks is 0; P@k from the "
            "threshold on (RMSIN, LAVT)."
        ),
        "lisa": (
            "Masks at their original size without the pixels marked 255; IoU is I / (U + 1e-5), "
            "and 1 for two empty masks (LISA)."
        ),
        "pixellm": (
            "As lisa for several masks per question, matched one to one; those without a partner "
            "count 0, and the sum is divided by the larger number of masks (PixelLM on MUSE)."
        ),
    },
    "clipscore": {
        "clipscore": (
            "2.5 max(cos, 0) of a CLIP's embeddings, captions behind 'A photo depicts ' (Hessel et "
            "al.), times 100; two CLIPs give two metrics: name the one."
        ),
    },
    "judge": {
        "clair": (
            "A language model says from 0 to 100 how likely caption and references are of one "
            "image, in wording of our own (after CLAIR); name the model."
        ),
        "callable": "A judge of the user's, 0 to 1 per caption or answer, times 100; name it.",
        "scores": "Verdicts of people or of a language model from a file, times 100; name them.",
        "equal": "1 for the true answer after VQA's EvalAI normalisation, else 0.",
    },
}

_DATASET = re.compile(r"[a-z0-9][a-z0-9_]*")


#: A language model as judge: its prompt and version, its name, a digest of its settings.
_JUDGE = re.compile(r"judge_[a-z]+_\d+_[a-z0-9_]+_[0-9a-f]{6}")


@dataclass(frozen=True)
class MetricName:
    """A name taken apart; `dataset` and `protocol` are None for the loop's own values."""

    stage: str
    metric: str
    dataset: str | None = None
    protocol: str | None = None

    def __str__(self) -> str:
        if self.dataset is None:
            return f"{self.stage}/{self.metric}"
        return f"{self.stage}/{self.dataset}/{self.protocol}/{self.metric}"


def _known(word: str, words: Iterable[str], what: str) -> str:
    words = list(words)
    if word not in words:
        raise ValueError(
            f"unknown {what} {word!r}. {near(word, words)} "
            "New words are added in rsvlm/metrics/names.py."
        )
    return word


def scalar_name(stage: str, word: str) -> str:
    """`<stage>/<word>`, for values of the loop itself.

    Args:
        stage: `train`, `val` or `test`.
        word: one of `SCALARS`, or `lr_<parameter group>`.

    Raises:
        ValueError: an unknown word; lists the near ones.
    """
    if re.fullmatch(r"lr_\w+", word):
        return str(MetricName(_known(stage, STAGES, "stage"), word))
    return str(
        MetricName(_known(stage, STAGES, "stage"), _known(word, SCALARS, "value of the loop"))
    )


def metric_name(stage: str, dataset: str, protocol: str, metric: str) -> str:
    """`<stage>/<data set>/<protocol>/<metric>`.

    Args:
        stage: `train`, `val` or `test`.
        dataset: the data set's `name`: lower-case letters, digits and underscores.
        protocol: one that `PROTOCOLS` lists for the metric's task.
        metric: one of `METRICS`.

    Raises:
        ValueError: an unknown word; lists the near ones.
    """
    _known(stage, STAGES, "stage")
    if not _DATASET.fullmatch(dataset):
        raise ValueError(
            f"data set name {dataset!r}: use lower-case letters, digits and underscores only, "
            "as in 'whu_rs19'."
        )
    task = METRICS[_known(metric, METRICS, "metric")].task
    if not (task == "judge" and _JUDGE.fullmatch(protocol)):
        _known(protocol, PROTOCOLS[task], f"protocol of {task}")
    return str(MetricName(stage, metric, dataset, protocol))


def parse(name: str) -> MetricName:
    """Takes a name apart, and refuses one that the functions above could not have made.

    Raises:
        ValueError: not two or four parts, or an unknown word in one of them.
    """
    parts = name.split("/")
    if len(parts) == 2:
        scalar_name(*parts)
        return MetricName(stage=parts[0], metric=parts[1])
    if len(parts) == 4:
        metric_name(*parts)
        return MetricName(parts[0], parts[3], parts[1], parts[2])
    raise ValueError(
        f"{name!r} is not a metric name: expected <stage>/<word> or "
        "<stage>/<data set>/<protocol>/<metric>."
    )
