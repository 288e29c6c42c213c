"""A run is taken as it is by every verb, and a checkpoint builds nothing but our classes."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from rsvlm.config.compose import compose, plain
from rsvlm.config.validate import check
from rsvlm.errors import UserError
from rsvlm.inference.own_configuration import Said, bring

CONF = Path(__file__).parents[2] / "conf"
#: One recipe of each family.
FAMILIES = {
    "clip_tiny_scenes": "clip_tiny",
    "llava_tiny_scenes": "llava_tiny",
    "skyeyegpt_tiny_scenes": "skyeyegpt_tiny",
    "blip2_tiny_scenes": "blip2_tiny",
    "deltavlm_tiny_scenes": "deltavlm_tiny",
    "rscapret_tiny_scenes": "rscapret_tiny",
    "chg2cap_tiny_scenes": None,
    "mmodalcc_tiny_scenes": None,
    "rsiccformer_tiny_scenes": None,
    "hf_vlm_tiny_scenes": None,
    "lisa_tiny_scenes": "lisa_tiny",
}


def run_of(folder, words, option=None):
    cfg = plain(compose("train", words))
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(cfg))
    (folder / "run.json").write_text(json.dumps({"verb": "train", "model": option}))
    (folder / "last.ckpt").touch()
    return cfg


@pytest.mark.parametrize("recipe", FAMILIES)
def test_a_run_of_every_family_is_taken_as_it_is(tmp_path, recipe):
    run = tmp_path / "run"
    held = run_of(run, [f"experiment={recipe}"], FAMILIES[recipe])
    for verb in ("predict", "eval"):
        words = [f"ckpt={run}"]
        cfg = bring(compose(verb, words), Said(words))
        now = plain(cfg)
        assert cfg.ckpt == str(run / "last.ckpt")
        for group in ("task", "data", "evaluation"):
            assert now[group] == held[group], group
        assert now["model"]["_target_"] == held["model"]["_target_"]
        assert check(cfg) > 3


def test_an_option_beside_a_run_must_be_its_own(tmp_path):
    run = tmp_path / "run"
    run_of(run, ["experiment=llava_tiny_scenes", "model.tuning=lora"], "llava_tiny")

    def with_words(*words):
        given = [f"ckpt={run}", *words]
        groups = {w.partition("=")[0]: "x" for w in words if "." not in w}
        return bring(compose("predict", given), Said(given, groups))

    assert with_words("model=llava_tiny").model.tuning == "lora"
    for option in ("clip_tiny", "llava", "skyeyegpt_tiny"):
        with pytest.raises(UserError, match=rf"model={option} is not the model of .*Leave model="):
            with_words(f"model={option}")
    assert with_words("model.lm.head_chunk=7").model.lm.head_chunk == 7


def test_what_a_checkpoint_says_of_itself_builds_nothing_else(tmp_path):
    """Facts of a CLIP that no recipe made become its configuration."""
    path = tmp_path / "x.ckpt"
    evil = {"_target_": "torch.utils.collect_env.run", "command": f"touch {tmp_path}/pwned"}
    facts = {"class": "CLIP", "arch": "tiny", "peft": "lora", "peft_options": {"r": evil}}
    meta = {"format": 1, "config": {}, "model": facts, "towers": {}}
    torch.save({"state_dict": {"a": torch.zeros(1)}, "rsvlm": meta}, path)
    words = [f"ckpt={path}"]
    with pytest.raises(UserError, match=r"would build torch\.utils\.collect_env\.run"):
        bring(compose("predict", words), Said(words))
    # A node as a text, which OmegaConf would parse.
    config = {"model": {"_target_": "rsvlm.encoders.clip.model.clip"}, "task": yaml.safe_dump(evil)}
    torch.save({"state_dict": {"a": torch.zeros(1)}, "rsvlm": meta | {"config": config}}, path)
    with pytest.raises(UserError, match="task is a str"):
        bring(compose("predict", words), Said(words))
