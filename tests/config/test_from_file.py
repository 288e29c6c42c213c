"""What a configuration that comes out of a file may say: our classes, and plain values."""

import time

import pytest
import yaml

from rsvlm.config.from_file import named, read_config, trusted
from rsvlm.errors import UserError

MODEL = {"_target_": "rsvlm.encoders.clip.model.clip", "arch": "tiny"}
EVIL = {"_target_": "torch.utils.collect_env.run", "command": "touch pwned"}


def write(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_runs_own_configuration_is_read(tmp_path):
    path = write(tmp_path, yaml.safe_dump({"model": MODEL, "seed": 0, "tags": ["2020-01-01"]}))
    assert read_config(path) == {"model": MODEL, "seed": 0, "tags": ["2020-01-01"]}
    # As OmegaConf reads it, not as YAML 1.1 does.
    lr = read_config(write(tmp_path, "optimizer: {lr: 1e-4}\nname: 2020-01-01\n"))
    assert lr == {"optimizer": {"lr": 1e-4}, "name": "2020-01-01"}


@pytest.mark.parametrize(
    "config",
    [
        {"model": EVIL},
        {"model": MODEL | {"inner": EVIL}},
        {"model": MODEL | {"inner": [{"deep": [EVIL]}]}},
        {"model": MODEL | {"inner": (EVIL,)}},  # a checkpoint holds tuples, and YAML has none
        {"model": MODEL | {"_args_": [EVIL]}},
        {"task": {"_target_": "rsvlm.lit.contrastive.Contrastive", "_partial_": True, "x": EVIL}},
        {"callbacks": {"x": EVIL}},
        {"model": {"_target_": "os.system"}},
        {"model": {"_target_": "rsvlm.config.from_file.re.os.system"}},
        {"model": {"_target_": "rsvlm.files.os.system"}},
        {"model": {"_target_": "rsvlm.app.run.fit"}},
        {"model": {"_target_": "rsvlm.inference.api.load"}},
        {"model": {"_target_": "rsvlm.config.instantiate.instantiate", "node": EVIL}},
        {"model": {"_target_": "hydra.utils.call"}},
        {"model": {"_target_": "builtins.exec"}},
        {"model": {"_target_": "rsvlm.encoders.clip.model.clip.__globals__"}},
        {"model": {"_target_": ["os.system"]}},
        {"model": {"_target_": ""}},
    ],
)
def test_what_is_not_of_our_configuration_is_named_and_not_built(config):
    with pytest.raises(UserError, match=r"would build|not the name of a class"):
        trusted(config, "x.ckpt")


@pytest.mark.parametrize("group", ["model", "task", "data", "evaluation", "loss", "trainer"])
def test_a_text_in_the_place_of_a_node_is_refused(group):
    """OmegaConf would parse it, behind the search for targets."""
    with pytest.raises(UserError, match=f"{group} is a str"):
        trusted({group: "{_target_: os.system, command: ls}"}, "x.ckpt")


@pytest.mark.parametrize("text", ["${oc.env:HOME}", "a ${model} b", "$\\{a} ${b}"])
def test_what_would_be_computed_is_refused(text):
    with pytest.raises(UserError, match="would be computed"):
        trusted({"model": MODEL | {"x": [text]}}, "x.ckpt")


def test_a_class_of_the_users_own_configuration_may_be_named(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "own.yaml").write_text("_target_: my_package.MyModel\n", "utf-8")
    config = {"model": {"_target_": "my_package.MyModel"}}
    assert named(tmp_path) == {"my_package.MyModel"}
    assert trusted(config, "x.ckpt", tmp_path) == config
    with pytest.raises(UserError, match="--config-dir"):
        trusted(config, "x.ckpt")


def bomb():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "say"),
    [
        ("", "it holds nothing"),
        ("{}", "it holds nothing"),
        ("- a\n- b\n", "it holds a list"),
        ("just words", "it holds a str"),
        ("a: !!python/object/apply:os.system [ls]", "the YAML tag"),
        ("a: !!set {x}", "the YAML tag"),
        ("a: !mine x", "the YAML tag"),
        ("a: [", "is no YAML"),
        ("a: &x [1]\nb: *x\n", "anchors"),
        # Quotes that do not pair hide nothing from a parser.
        ("a: it's\nb: &x [1]\nc: [*x, *x]\nd: it's\n", "anchors"),
        (bomb(), "anchors"),
        ("a: " + "[" * 100 + "]" * 100, "too deep"),
        ("a: " + "[" * 1500, "is no YAML"),
        ("a: [" + "1," * 20_100 + "1]", "too large"),
        ("a: " + "x" * 300_000, "bytes"),
        ("? [a, b]\n: c\n", "is no YAML"),
        ("1.5: a\n", "no name"),
    ],
)
def test_a_file_that_is_no_configuration_is_one_error_at_once(tmp_path, text, say):
    path = write(tmp_path, text)
    begun = time.process_time()
    with pytest.raises(UserError, match=say) as error:
        read_config(path)
    assert str(path) in str(error.value)
    assert time.process_time() - begun < 20


def test_a_file_that_cannot_be_read_says_so(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_config(tmp_path / "config.yaml")
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(UserError, match=r"cannot be read|no YAML"):
        read_config(path)
