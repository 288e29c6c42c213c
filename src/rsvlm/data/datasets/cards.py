"""Data sets that are nothing but facts over a reader: one card each.

A card names the reader that knows the format, what the files are called, and what a user is told:
title, layout, terms, paper, published sizes. Its class is made from it, so that `isinstance`,
pickling and `_target_` work as for classes written out.
"""

from __future__ import annotations

from rsvlm.data.datasets.caption_json import CaptionJSON
from rsvlm.data.datasets.card import Card
from rsvlm.data.datasets.change_captions import ChangeCaptions
from rsvlm.data.datasets.coco import Coco
from rsvlm.data.datasets.conversations import Conversations
from rsvlm.data.datasets.karpathy import Karpathy
from rsvlm.data.datasets.rsvqa import RSVQA
from rsvlm.data.datasets.table_parts import Part, TableParts
from rsvlm.data.text.no_change import NO_CHANGE

_OPTIMAL = "https://github.com/201528014227051/RSICD_optimal"
_SYDNEY_UCM = (
    "B. Qu, X. Li, D. Tao, X. Lu. Deep semantic understanding of high resolution remote sensing "
    "image. CITS 2016"
)
_GEORSCLIP = (
    "Z. Zhang, T. Zhao, Y. Guo, J. Yin. RS5M and GeoRSCLIP: A large-scale vision-language dataset "
    "and a large vision-language model for remote sensing. IEEE TGRS 62, 2024. arXiv:2306.11300"
)
_SKYSCRIPT = (
    "Z. Wang, R. Prabha, T. Huang, J. Wu, R. Rajagopal. SkyScript: A large and semantically "
    "diverse vision-language dataset for remote sensing. AAAI 2024. arXiv:2312.12856"
)


def _below(*archives: str) -> tuple[str, ...]:
    # The archives unpack to a folder of their name, or into the folder they are unpacked in.
    return tuple(f"data/{name}{inner}" for name in archives for inner in ("", f"/{name}"))


def _skyscript(folder: str, name: str, count: int) -> Part:
    # The tables' paths start at the benchmarks' folder or at the data set's own.
    return Part(f"{folder}/{folder}_img_txt_pairs_test.csv", (".", folder), name, count)


RSICD = Card(
    "RSICD",
    Karpathy,
    name="rsicd",
    title="RSICD",
    doc="""RSICD in its published JSON: 10,921 aerial images with five captions each.

    The same sentence often describes several images, and some images repeat one sentence five
    times; metrics must cope, and this reader leaves captions as they are.""",
    layout=(
        "dataset_rsicd.json",
        "RSICD_images/   or images/; 10,921 files, airport_1.jpg ...",
    ),
    licence="no licence text; for research (Google Earth, Baidu Map, MapABC, Tianditu)",
    paper=(
        "X. Lu, B. Wang, X. Zheng, X. Li. Exploring models and data for remote sensing image "
        "caption generation. IEEE TGRS 56(4), 2018. arXiv:1712.07835"
    ),
    homepage=_OPTIMAL,
    counts={"train": 8734, "val": 1094, "test": 1093},
    words={"required_file": "dataset_rsicd.json", "image_folders": ("RSICD_images", "images")},
).build()

RSITMD = Card(
    "RSITMD",
    CaptionJSON,
    name="rsitmd",
    title="RSITMD",
    doc="""RSITMD in its published JSON: 4,743 aerial images with five fine-grained captions each.

    It has no validation split.""",
    layout=("dataset_RSITMD.json", "images/   4,743 files, airport_0.tif ..."),
    licence="no licence text; for research (RSICD's sources and Google Earth)",
    paper=(
        "Z. Yuan, W. Zhang, K. Fu, X. Li, C. Deng, H. Wang, X. Sun. Exploring a fine-grained "
        "multiscale method for cross-modal remote sensing image retrieval. IEEE TGRS 60, 2022. "
        "arXiv:2204.09868"
    ),
    homepage="https://github.com/xiaoyuan1996/AMFMN",
    counts={"train": 4291, "test": 452},
    words={"file_name": "dataset_RSITMD.json", "image_folders": ("images", "RSITMD_images")},
).build()

SydneyCaptions = Card(
    "SydneyCaptions",
    CaptionJSON,
    name="sydney_captions",
    title="Sydney-Captions",
    doc="Sydney-Captions in its published JSON: 613 aerial images of 7 classes.",
    layout=("dataset.json", "imgs/   or images/; 613 files, 1.tif ..."),
    licence="no licence text; for research (Google Earth)",
    paper=_SYDNEY_UCM,
    homepage=_OPTIMAL,
    counts={"train": 497, "val": 58, "test": 58},
    words={"image_folders": ("imgs", "images", "Sydney_images")},
).build()

UCMCaptions = Card(
    "UCMCaptions",
    CaptionJSON,
    name="ucm_captions",
    title="UCM-Captions",
    doc="""UCM-Captions in its published JSON: 2,100 aerial images of 21 classes.

    Captions repeat much: the test split's 1,050 are 377 different sentences.""",
    layout=("dataset.json", "imgs/   or images/; 2,100 files, 1.tif ..."),
    licence="images public domain (USGS); captions without licence text, for research",
    paper=_SYDNEY_UCM,
    homepage=_OPTIMAL,
    counts={"train": 1680, "val": 210, "test": 210},
    words={"image_folders": ("imgs", "images", "UCM_images")},
).build()

LevirCC = Card(
    "LevirCC",
    ChangeCaptions,
    name="levir_cc",
    title="LEVIR-CC",
    doc="""LEVIR-CC in its published JSON: 10,077 pairs with five captions of what changed.

    The file with `changeflag` or the one before it. File names count with gaps: 10,077 pairs reach
    up to train_007590.""",
    layout=(
        "LevirCCcaptions.json",
        "images/train/A/train_000001.png ...  images/train/B/   and val/, test/",
    ),
    licence="card says Apache-2.0; Google Earth's images for academic use only",
    paper=(
        "C. Liu, R. Zhao, H. Chen, Z. Zou, Z. Shi. Remote sensing image change captioning with "
        "dual-branch transformers: a new method and a large scale dataset. IEEE TGRS 60, 2022"
    ),
    homepage="https://huggingface.co/datasets/lcybuaa/LEVIR-CC",
    counts={"train": 6815, "val": 1333, "test": 1929},
    words={
        "file_names": ("LevirCCcaptions.json", "LevirCCcaptions_v1.json"),
        "image_folders": ("images",),
        "no_change": frozenset(NO_CHANGE["levir_cc"]),
    },
).build()

RSGPT4V = Card(
    "RSGPT4V",
    Conversations,
    name="rsgpt4v",
    title="RS-GPT4V",
    doc="""RS-GPT4V: captions, questions, grounding, regions, dialogues, descriptions.

    The names inside its archive are not published: every JSON whose name holds the split's word is
    read, or those that `annotations` names. Published are 91,937 images with 991,206 questions for
    training and 15,999 with 258,419 for testing; a conversation holds one or more of them, so that
    no count of conversations can be held against them.""",
    layout=(
        "train.json   test.json   or any names that hold the split's word; annotations= else",
        "images/      as the JSON names them; another folder with images=",
    ),
    licence="no licence text; images under the terms of the ten sources, for research",
    paper=(
        "L. Xu, L. Zhao, W. Guo, Q. Li, K. Long, K. Zou, Y. Wang, H. Li. RS-GPT4V: A unified "
        "multimodal instruction-following dataset for remote sensing image understanding. "
        "arXiv:2406.12479"
    ),
    homepage="https://github.com/GeoX-Lab/RS-GPT4V",
).build()

GeoChatInstruct = Card(
    "GeoChatInstruct",
    Conversations,
    name="geochat_instruct",
    title="GeoChat_Instruct",
    doc="""GeoChat_Instruct as published: one JSON, and images below a long folder name.

    Boxes stand in the text as `{<x0><y0><x1><y1>|<angle>}`, 0 to 100 of the image, with the angle
    in degrees. Turns whose text begins with [refer], [identify] or [grounding] have that word as
    their kind. `train` is the only split.""",
    layout=(
        "GeoChat_Instruct.json",
        "images/   as images.zip unpacks (share/softwares/kartik/GeoChat_finetuning/",
        "          final_images_llava/), or the images themselves",
    ),
    licence="terms of its card; images under the terms of the sources, for research",
    paper=(
        "K. Kuckreja, M. S. Danish, M. Naseer, A. Das, S. Khan, F. S. Khan. GeoChat: Grounded "
        "large vision-language model for remote sensing. CVPR 2024. arXiv:2311.15826"
    ),
    homepage="https://huggingface.co/datasets/MBZUAI/GeoChat_Instruct",
    counts={"train": 308861},
    words={
        "required_file": "GeoChat_Instruct.json",
        "image_folders": (
            "images",
            "images/final_images_llava",
            "images/share/softwares/kartik/GeoChat_finetuning/final_images_llava",
            "share/softwares/kartik/GeoChat_finetuning/final_images_llava",
            "final_images_llava",
        ),
    },
).build()

RemoteCLIPPairs = Card(
    "RemoteCLIPPairs",
    TableParts,
    name="remoteclip",
    title="RemoteCLIP's training set",
    doc="""RET-3, DET-10 and SEG-4 as released: tab-separated, `filename` and `title`, UTF-8.

    Splits: `train` is `ret3+det10+seg4`, any of which may be had alone; `test_rsicd`,
    `test_rsitmd`, `test_ucm` are the retrieval test sets and are named after them in metrics.
    RET-3 was cleared of images that occur in a test set of the three; the plain training splits of
    RSICD, RSITMD and UCM-Captions are not, and hold images of one another's test sets.""",
    layout=(
        "csv_file/train/Ret-3_train.csv  Det-10.csv  Seg-4.csv",
        "csv_file/test/rsicd_test.csv  rsitmd_test.csv  ucm_test.csv",
        "data/Ret-3_train/  Det-10_part1/  Det-10_part2/  Seg-4/  Ret-3_test/",
    ),
    licence="no licence text; the sources' terms hold, most for research only",
    paper=(
        "F. Liu, D. Chen, Z. Guan, X. Zhou, J. Zhu, Q. Ye, L. Fu, J. Zhou. RemoteCLIP: A vision "
        "language foundation model for remote sensing. IEEE TGRS 62, 2024. arXiv:2306.11029"
    ),
    homepage="https://huggingface.co/datasets/gzqy1026/RemoteCLIP",
    counts={"train": 165745, "test_rsicd": 1093, "test_rsitmd": 452, "test_ucm": 210},
    words={
        "encodings": ("utf-8-sig",),
        "separators": ("\t", ","),
        "parts": {
            "ret3": Part("csv_file/train/Ret-3_train.csv", _below("Ret-3_train")),
            "det10": Part("csv_file/train/Det-10.csv", _below("Det-10_part1", "Det-10_part2")),
            "seg4": Part("csv_file/train/Seg-4.csv", _below("Seg-4")),
            "test_rsicd": Part("csv_file/test/rsicd_test.csv", _below("Ret-3_test"), "rsicd", 1093),
            "test_rsitmd": Part(
                "csv_file/test/rsitmd_test.csv", _below("Ret-3_test"), "rsitmd", 452
            ),
            "test_ucm": Part(
                "csv_file/test/ucm_test.csv", _below("Ret-3_test"), "ucm_captions", 210
            ),
        },
        "aliases": {"train": ("ret3", "det10", "seg4")},
    },
).build()

GeoRSCLIPEval = Card(
    "GeoRSCLIPEval",
    TableParts,
    name="georsclip_eval",
    title="GeoRSCLIP's evaluation data",
    doc="""RSICD's and RSITMD's test captions: comma-separated, `filename` and `title`.

    The root is the folder rs5m_test_data, a split `rsicd` or `rsitmd`; metrics are named after it.
    RSICD's table is GB 18030, which the published code assumes wherever a path contains `rsicd`;
    here a table is UTF-8 if it can be read so.""",
    layout=(
        "rsicd/rsicd_test.csv    rsicd/RSICD_images/",
        "rsitmd/rsitmd_test.csv  rsitmd/images/",
    ),
    licence="no licence text; for research (RSICD and RSITMD)",
    paper=_GEORSCLIP,
    homepage="https://huggingface.co/Zilun/GeoRSCLIP",
    counts={"rsicd": 1093, "rsitmd": 452},
    words={
        "parts": {
            "rsicd": Part("rsicd/rsicd_test.csv", ("rsicd/RSICD_images",), "rsicd", 1093),
            "rsitmd": Part("rsitmd/rsitmd_test.csv", ("rsitmd/images",), "rsitmd", 452),
        }
    },
).build()

SkyScriptRetrieval = Card(
    "SkyScriptRetrieval",
    TableParts,
    name="skyscript_retrieval",
    title="SkyScript's retrieval benchmarks",
    doc="""The retrieval benchmarks as SkyScript packs them: comma-separated, `filepath`, `title`.

    A split is `rsicd`, `rsitmd` or `ucm_captions`; metrics are named after it.""",
    layout=(
        "RSICD/RSICD_img_txt_pairs_test.csv              and its images",
        "RSITMD/RSITMD_img_txt_pairs_test.csv            and its images",
        "ucmcaptions/ucmcaptions_img_txt_pairs_test.csv  and its images",
    ),
    licence="no licence text; for research (RSICD, RSITMD, UCM-Captions)",
    paper=_SKYSCRIPT,
    homepage="https://github.com/wangzhecheng/SkyScript",
    counts={"rsicd": 1093, "rsitmd": 452, "ucm_captions": 210},
    words={
        "parts": {
            "rsicd": _skyscript("RSICD", "rsicd", 1093),
            "rsitmd": _skyscript("RSITMD", "rsitmd", 452),
            "ucm_captions": _skyscript("ucmcaptions", "ucm_captions", 210),
        }
    },
).build()

VHR10 = Card(
    "VHR10",
    Coco,
    name="vhr10",
    title="NWPU VHR-10 (COCO)",
    doc="""NWPU VHR-10 with outlines: 650 images, 3,921 objects of ten classes; `all` is its split.

    The 150 images without an object (`negative image set`) are not in the JSON.""",
    layout=("annotations.json", "positive image set/   001.jpg ... 650.jpg"),
    licence="no licence text; for research",
    paper=(
        "H. Su, S. Wei, M. Yan, C. Wang, J. Shi, X. Zhang. Object detection and instance "
        "segmentation in remote sensing imagery based on precise Mask R-CNN. IGARSS 2019"
    ),
    homepage="https://github.com/chaozhong2010/VHR-10_dataset_coco",
    counts={"all": 650},
    words={
        "file_names": ("annotations.json",),
        "image_folders": ("positive image set", "images", "."),
        "splits": ("all",),
    },
).build()

_RSVQA = {
    "paper": (
        "S. Lobry, D. Marcos, J. Murray, D. Tuia. RSVQA: Visual question answering for remote "
        "sensing data. IEEE TGRS 58(12), 2020. arXiv:2003.07333"
    ),
    "homepage": "https://rsvqa.sylvainlobry.com",
}

RSVQALR = Card(
    "RSVQALR",
    RSVQA,
    name="rsvqa_lr",
    title="RSVQA-LR",
    doc="RSVQA-LR: 772 Sentinel-2 images of the Netherlands, 256 px at 10 m; 77,232 questions.",
    layout=(
        "LR_split_train_questions.json  LR_split_train_answers.json  LR_split_train_images.json",
        "... the same for val and test",
        "Images_LR/   0.tif ... 771.tif",
    ),
    licence="CC BY 4.0 (annotations); Copernicus Sentinel data",
    **_RSVQA,
    counts={"train": 57223, "val": 10005, "test": 10004},
    words={
        "prefix": "LR",
        "image_folders": ("Images_LR", "Images_LR/Images_LR", "images"),
        "kinds": ("rural_urban", "presence", "count", "comp"),
    },
).build()

RSVQAHR = Card(
    "RSVQAHR",
    RSVQA,
    name="rsvqa_hr",
    title="RSVQA-HR",
    doc="""RSVQA-HR: 10,659 aerial images (USGS), 512 px at 15 cm; a million questions.

    `test` shows the region of the training images, `test_phili` (also `test_2`) Philadelphia, which
    training has never seen. `types=[presence,comp]` leaves 62,554 questions of `test_phili`, the
    part that chat models are compared on.""",
    layout=(
        "USGS_split_train_questions.json  USGS_split_train_answers.json",
        "USGS_split_train_images.json",
        "... the same for val, test and test_phili",
        "Data/   0.tif ... (or .png)",
    ),
    licence="CC BY 4.0 (annotations); images public domain (USGS)",
    **_RSVQA,
    counts={"train": 625340, "val": 102843, "test": 222684, "test_phili": 105647},
    words={
        "prefix": "USGS",
        "image_folders": ("Data", "images"),
        "kinds": ("area", "presence", "count", "comp"),
        "aliases": {"test_2": "test_phili", "test2": "test_phili"},
        "names": {"test_phili": "rsvqa_hr_phili"},
    },
).build()
