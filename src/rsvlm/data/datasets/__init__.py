"""One data set per file: `X(root, split, **options)`, a sequence of `Sample`s.

A data set reads files and knows no tokenizer, model or transform.
"""

from rsvlm.data.datasets.airslt import AIRSLT
from rsvlm.data.datasets.base import FileDataset
from rsvlm.data.datasets.capera import CapERA
from rsvlm.data.datasets.cards import (
    RSGPT4V,
    RSICD,
    RSITMD,
    RSVQAHR,
    RSVQALR,
    VHR10,
    GeoChatInstruct,
    GeoRSCLIPEval,
    LevirCC,
    RemoteCLIPPairs,
    SkyScriptRetrieval,
    SydneyCaptions,
    UCMCaptions,
)
from rsvlm.data.datasets.change_pairs import ChangePairs
from rsvlm.data.datasets.change_table import ChangeTable
from rsvlm.data.datasets.changechat import ChangeChat
from rsvlm.data.datasets.class_table import ClassTable
from rsvlm.data.datasets.coco import SSDD, Coco
from rsvlm.data.datasets.conversations import Conversations
from rsvlm.data.datasets.dior_rsvg import DIORRSVG
from rsvlm.data.datasets.dota import DOTA
from rsvlm.data.datasets.dubai_ccd import DubaiCCD
from rsvlm.data.datasets.era_vqa import ERAVQA
from rsvlm.data.datasets.floodnet import FloodNet
from rsvlm.data.datasets.gaia import GAIA, GAIAShards
from rsvlm.data.datasets.geopixinstruct import GeoPixInstruct
from rsvlm.data.datasets.georsclip_scenes import GeoRSCLIPScenes
from rsvlm.data.datasets.isaid import ISAID
from rsvlm.data.datasets.karpathy import Karpathy
from rsvlm.data.datasets.levir_mci import LevirMCI
from rsvlm.data.datasets.mask_folder import MaskFolder
from rsvlm.data.datasets.nwpu_captions import NWPUCaptions
from rsvlm.data.datasets.pairs import PairsTable
from rsvlm.data.datasets.precomp import Precomp
from rsvlm.data.datasets.reasonseg import ReasonSeg
from rsvlm.data.datasets.refsegrs import RefSegRS
from rsvlm.data.datasets.rrsis_d import RRSISD
from rsvlm.data.datasets.rs5m import RS5M
from rsvlm.data.datasets.rsicap import RSICap, RSIEval
from rsvlm.data.datasets.rsivqa import RSIVQA
from rsvlm.data.datasets.rspg import RSPG
from rsvlm.data.datasets.rsvg import RSVG
from rsvlm.data.datasets.rswk import RSWK
from rsvlm.data.datasets.scene_folder import SceneFolder
from rsvlm.data.datasets.second import SECONDPairs
from rsvlm.data.datasets.second_cc import SecondCC
from rsvlm.data.datasets.shards import Shards
from rsvlm.data.datasets.skyeye968k import SkyEye968k
from rsvlm.data.datasets.skyscript import SkyScript
from rsvlm.data.datasets.skyscript_bench import SkyScriptBench
from rsvlm.data.datasets.vrsbench_captions import VRSBenchCaptions
from rsvlm.data.datasets.whurs19 import WHURS19

#: Every reader by its word, the one place where it is registered; conf/data has options of these
#: names.
DATASETS: dict[str, type[FileDataset]] = {
    "airslt": AIRSLT,
    "capera": CapERA,
    "change_pairs": ChangePairs,
    "change_table": ChangeTable,
    "changechat": ChangeChat,
    "class_table": ClassTable,
    "coco": Coco,
    "conversations": Conversations,
    "dior_rsvg": DIORRSVG,
    "dota": DOTA,
    "dubai_ccd": DubaiCCD,
    "era_vqa": ERAVQA,
    "floodnet": FloodNet,
    "gaia": GAIAShards,
    "gaia_json": GAIA,
    "geochat_instruct": GeoChatInstruct,
    "geopixinstruct": GeoPixInstruct,
    "georsclip_eval": GeoRSCLIPEval,
    "georsclip_scenes": GeoRSCLIPScenes,
    "isaid": ISAID,
    "karpathy": Karpathy,
    "levir_cc": LevirCC,
    "levir_mci": LevirMCI,
    "mask_folder": MaskFolder,
    "nwpu_captions": NWPUCaptions,
    "pairs": PairsTable,
    "precomp": Precomp,
    "reasonseg": ReasonSeg,
    "refsegrs": RefSegRS,
    "remoteclip": RemoteCLIPPairs,
    "rrsis_d": RRSISD,
    "rs5m": RS5M,
    "rsgpt4v": RSGPT4V,
    "rsicap": RSICap,
    "rsicd": RSICD,
    "rsieval": RSIEval,
    "rsitmd": RSITMD,
    "rsivqa": RSIVQA,
    "rspg": RSPG,
    "rsvg": RSVG,
    "rsvqa_hr": RSVQAHR,
    "rsvqa_lr": RSVQALR,
    "rswk": RSWK,
    "scene_folder": SceneFolder,
    "second": SECONDPairs,
    "second_cc": SecondCC,
    "shards": Shards,
    "skyeye968k": SkyEye968k,
    "skyscript": SkyScript,
    "skyscript_bench": SkyScriptBench,
    "skyscript_retrieval": SkyScriptRetrieval,
    "ssdd": SSDD,
    "sydney_captions": SydneyCaptions,
    "ucm_captions": UCMCaptions,
    "vhr10": VHR10,
    "vrsbench_captions": VRSBenchCaptions,
    "whurs19": WHURS19,
}
