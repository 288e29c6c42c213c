"""The nine rules of conf/, each with its test, over every file that is there."""

import re
from functools import cache
from itertools import groupby, zip_longest
from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import instantiate
from omegaconf import OmegaConf

from rsvlm.app.guards import resumed
from rsvlm.config.compose import plain, register
from rsvlm.config.validate import check, nodes
from rsvlm.errors import UserError

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
FILES = sorted(p for p in CONF.rglob("*.yaml"))
EXPERIMENTS = sorted(p.stem for p in (CONF / "experiment").glob("*.yaml"))
#: Recipes, what is one's own, and groups of verbs that train nothing, which have their own tests.
APART = (CONF, *(CONF / name for name in ("experiment", "local", "pipeline", "engine", "suite")))
GROUPED = sorted(
    (str(p.parent.relative_to(CONF)), p.stem)
    for p in FILES
    if p.parent not in APART and not p.stem.startswith("_")
)


def side_by_side(options):
    """The n-th option of every group together, for as many n as the largest group has options."""
    groups = [[f"{g}={o}" for g, o in part] for _, part in groupby(options, lambda x: x[0])]
    return [[word for word in row if word] for row in zip_longest(*groups)]


# Options of different groups do not touch each other (rule 2), so that one composition tests one
# of each. A part of a model composes within one that has such parts.
TOGETHER = [
    *side_by_side([x for x in GROUPED if not x[0].startswith("model/")]),
    *(["model=deltavlm", *x] for x in side_by_side([x for x in GROUPED if x[0][:6] == "model/"])),
]
# What an option says nothing of and cannot be built without.
NEEDED = {"model=api": ["model.url=http://127.0.0.1:1/v1", "model.name=none"]}
# A recipe is composed under its own verb, and one of each task under the others, too.
ENTRIES = ("train", "eval", "predict")
EVERYWHERE = {
    "clip_tiny_scenes",
    "eval_zeroshot_scenes",
    "geopix_tiny_scenes",
    "mmodalcc_tiny_scenes",
    "rscapret_tiny_scenes",
    "rsmoe_tiny_stage2",
}


def own(verb, experiment):
    trains = not experiment.startswith("eval_")
    return experiment in EVERYWHERE or verb == ("train" if trains else "eval")


UNDER = [
    pytest.param(v, e, marks=() if own(v, e) else pytest.mark.slow)
    for e in EXPERIMENTS
    for v in ENTRIES
]


@cache
def composed(verb, experiment):
    """A recipe under a verb, composed once for all tests, which only read it."""
    from rsvlm.config.compose import compose

    return compose(verb, [f"experiment={experiment}"])


def raw(path):
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def target(group, option):
    """The class of an option, which may stand in what it shares with others."""
    node = raw(CONF / group / f"{option}.yaml")
    for base in node.get("defaults", []):
        if isinstance(base, str) and base.startswith("_") and base != "_self_":
            node = {"_target_": target(group, base)} | node
    return node.get("_target_")


def test_there_are_files_to_test():
    assert len(FILES) >= 45
    assert len(EXPERIMENTS) >= 6
    assert sum(group == "model" for group, _ in GROUPED) >= 18
    assert sorted(
        tuple(w.rsplit("=", 1)) for x in TOGETHER for w in x if w != "model=deltavlm"
    ) == [x for x in GROUPED if x != ("model", "deltavlm")]
    assert set(EXPERIMENTS) >= EVERYWHERE


@pytest.mark.parametrize("words", TOGETHER, ids=" ".join)
def test_options_compose_and_bind_and_models_build_on_meta_at_full_size(compose, words):
    if any(word.startswith("hydra/launcher=") for word in words):
        pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    cfg = compose("train", [*words, *(more for word in words for more in NEEDED.get(word, ()))])
    assert check(cfg) >= 8
    OmegaConf.to_container(cfg, resolve=True)
    if not any(word.startswith("model=") for word in words) or words[0] == "model=deltavlm":
        return
    if "words" in cfg.model:  # which a run takes from its data
        cfg.model.words = None
        OmegaConf.update(cfg, "model.vocab_size", 99, force_add=True)
    with torch.device("meta"):
        model = instantiate(cfg.model)
    assert all(p.is_meta for p in model.parameters())


@pytest.mark.parametrize(("verb", "experiment"), UNDER)
def test_a_recipe_composes_under_an_entry_point_and_what_it_chooses_stands(verb, experiment):
    """Rules 3 and 4."""
    cfg = composed(verb, experiment)
    assert cfg.name == experiment
    assert check(cfg) >= 8
    OmegaConf.to_container(cfg, resolve=True)
    for entry in raw(CONF / "experiment" / f"{experiment}.yaml")["defaults"]:
        for word, option in entry.items():
            group = word.removeprefix("override ").lstrip("/")
            assert cfg[group].get("_target_") == target(group, option), group


def test_rule_1_an_experiment_overrides_no_nested_group():
    for experiment in EXPERIMENTS:
        path = CONF / "experiment" / f"{experiment}.yaml"
        for entry in raw(path).get("defaults", []):
            for word in entry if isinstance(entry, dict) else ():
                group = word.removeprefix("override ").lstrip("/")
                assert "/" not in group, f"{path}: {word}"
    assert not [p for p in (CONF / "experiment").rglob("*.yaml") if p.parent.name != "experiment"]


def test_rule_2_parts_refer_to_each_other_by_relative_interpolation():
    allowed = re.compile(r"\$\{(\.|oc\.env:|paths\.|name\}|now:|new_folder:|hydra[.:])")
    for path in FILES:
        for found in re.finditer(r"\$\{[^}]*\}", path.read_text(encoding="utf-8")):
            assert allowed.match(found.group()), f"{path}: {found.group()}"


@pytest.mark.parametrize("name", ["eval", "predict"])
def test_rule_3_eval_and_predict_start_from_train(name):
    assert raw(CONF / f"{name}.yaml")["defaults"][0] == "train"


@pytest.mark.parametrize(
    "key",
    ["optimizer.lrr", "data.batchsize", "data.augment.scales", "model.arhc", "trainer.save_evry"],
)
def test_rule_4_a_misspelt_key_of_a_node_is_an_error_that_names_the_near_one(compose, key):
    cfg = compose("train", ["data=rsicd", f"+{key}=1"])
    with pytest.raises(UserError, match=rf"{re.escape(key)} is no argument of .* Did you mean"):
        check(cfg)


def test_rule_4_a_key_for_another_option_names_recipe_and_option(compose, tmp_path):
    (tmp_path / "experiment").mkdir()
    recipe = "defaults:\n  - override /optimizer: sgd\noptimizer:\n  momentum: 0.9\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(recipe)
    cfg = compose("train", ["+optimizer.momentum=0.9"])
    with pytest.raises(UserError, match=r"experiment=mine.*optimizer=sgd"):
        check(cfg, {"experiment": "mine", "optimizer": "adamw"}, [tmp_path])


def test_rule_4_partial_and_nested_nodes_are_found(compose):
    paths = [path for path, _ in nodes(OmegaConf.to_container(compose("train", ["data=rsicd"])))]
    assert {"data", "data.dataset", "data.augment", "optimizer", "trainer"} <= set(paths)


def test_rule_4_a_target_that_is_not_there_says_why(compose):
    cfg = compose("train", ["model._target_=rsvlm.encoders.clip.model.clipp"])
    with pytest.raises(UserError, match="clipp"):
        check(cfg)


@pytest.mark.parametrize("word", ["sead=3", "seed=abc", "compile=perhaps"])
def test_rule_5_top_level_words_are_held_by_the_schema(compose, word):
    with pytest.raises(Exception, match=word.split("=")[0]):
        compose("train", [word])


def test_rule_5_a_misspelt_top_level_word_in_a_recipe_is_an_error():
    register()
    from rsvlm.config.schema import PredictSchema, Schema

    known = set(Schema.__dataclass_fields__)
    assert known < set(PredictSchema.__dataclass_fields__)
    for experiment in EXPERIMENTS:
        words = set(raw(CONF / "experiment" / f"{experiment}.yaml")) - {"defaults", "hydra"}
        assert words <= known, f"{experiment}: {words - known}"


def saved_run(compose, tmp_path):
    cfg = compose("train", ["experiment=clip_tiny_scenes", "seed=7"])
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(plain(cfg))))
    return tmp_path


def test_rule_6_resume_stands_alone_but_for_trainer_and_logger(compose, tmp_path):
    folder = saved_run(compose, tmp_path)
    words = [f"resume={folder}", "trainer.max_epochs=77"]
    got = resumed(compose("train", words), words)
    assert (got.seed, got.trainer.max_epochs, got.name) == (7, 77, "clip_tiny_scenes")
    for other in ("model=clip_small", "seed=3", "experiment=clip_small_rsicd", "trainer=gpu"):
        words = [f"resume={folder}", other]
        with pytest.raises(UserError, match=f"{other}.*init="):
            resumed(compose("train", words), words)


def test_rule_6_the_data_of_a_run_may_have_moved(compose, tmp_path, monkeypatch):
    old, new = tmp_path / "old", tmp_path / "new"
    (new / "ret").mkdir(parents=True)
    monkeypatch.setenv("RSVLM_DATA", str(old))
    cfg = compose("train", ["data=ret2", "data.root=${paths.data_dir}/ret", "data.batch_size=7"])
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(plain(cfg))))
    words = [f"resume={tmp_path}", f"data.root={new}/here", "data.workers=0"]
    got = resumed(compose("train", words), words)
    assert got.data.dataset.parts.rsicd.root == f"{new}/here/rsicd" == f"{got.data.root}/rsicd"
    assert (got.data.workers, got.data.batch_size) == (0, 7)
    monkeypatch.setenv("RSVLM_DATA", str(new))
    got = resumed(compose("train", words[:1]), words[:1])
    assert got.data.dataset.parts.rsitmd.root == f"{new}/ret/rsitmd"
    old.mkdir()  # still there: nothing moved
    assert resumed(compose("train", words[:1]), words[:1]).data.root == f"{old}/ret"


def test_rule_7_sweep_folders_are_numbers():
    assert raw(CONF / "train.yaml")["hydra"]["sweep"]["subdir"] == "${hydra.job.num}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(CONF)))
def test_rule_9_a_file_opens_with_what_it_is_for(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = [line for line in lines[:4] if line.startswith("#") and "@package" not in line]
    assert comments, f"{path} says nothing of itself"
    if path.parent.name == "experiment":
        assert any("python " in line for line in comments), f"{path}: which command runs it?"
        assert len(lines) <= 40


def test_recipes_that_train_nothing_are_named_eval():
    """`rsvlm list recipes` tells the two apart."""
    learning = {"optimizer", "scheduler", "callbacks", "init_new"}
    for experiment in EXPERIMENTS:
        path = CONF / "experiment" / f"{experiment}.yaml"
        lines = [x for x in path.read_text().splitlines() if " -c " not in x]
        command = next(x for x in lines if "python " in x or "rsvlm " in x)
        evaluates = " eval.py " in command or "rsvlm eval " in command
        assert evaluates is experiment.startswith("eval_"), path
        if evaluates:
            groups = {w.split("/")[-1] for e in raw(path)["defaults"] for w in e}
            assert not learning & (groups | set(raw(path))), path


def test_the_old_name_of_a_recipe_leads_to_the_new_one(compose):
    with pytest.raises(UserError, match="is called experiment=eval_retrieval_rsicd since"):
        compose("eval", ["experiment=retrieval_rsicd"])
