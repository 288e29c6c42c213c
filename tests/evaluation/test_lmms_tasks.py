"""A task for lmms-eval gives the numbers of `rsvlm eval` on the same answers."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from loopback import completion, question, serving

from rsvlm.cli.lmms_eval import main
from rsvlm.errors import UserError
from rsvlm.evaluation.lmms_tasks import RecordedTask

SCENES = ["data=scenes", "data.dataset.n=6"]
PARTS = "+data.dataset.parts=[turns,references,instances]"


def said(text):
    """An answer that is right now and then, by its question alone."""
    if "fractions" in text:
        return f"[0.1, 0.2, 0.{5 + len(text) % 4}, 0.9]" if len(text) % 3 else "nowhere"
    return ("yes", "no", "2", "a port")[len(text) % 4]


def functions(folder):
    """utils.py as lmms-eval imports it."""
    spec = importlib.util.spec_from_file_location("utils", folder / "utils.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def listed(folder):
    """The task's file, its functions by name."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: node.value.removeprefix("utils."))
    return yaml.load((folder / f"{folder.name}.yaml").read_text("utf-8"), Loader)


def evaluated(words, out, compose):
    """name -> value of `rsvlm eval` with an endpoint that answers by `said`."""
    from rsvlm.app.run import evaluate

    with serving(lambda body: completion(said(question(body)))) as script:
        more = [f"model.url={script.url}", "model.name=x", "model.key_env=null"]
        cfg = compose("eval", ["model=api", "task=captioner", *words, *more, "trainer=cpu",
                               "logger=none", "data.workers=0"])  # fmt: skip
        evaluate(cfg, out)
    rows = json.loads((out / "metrics.json").read_text("utf-8"))["results"]
    return {row["name"]: row["value"] for row in rows}


@pytest.mark.parametrize("evaluation", ["vqa", "grounding", "captions"])
def test_the_same_answers_give_the_same_numbers(tmp_path, compose, evaluation):
    quick = "evaluation.metrics=[bleu1,bleu2,bleu3,bleu4,rouge_l,cider]"  # METEOR starts Java
    parts = [quick] if evaluation == "captions" else [PARTS]
    words = [*SCENES, *parts, f"evaluation={evaluation}"]
    main(["--out", str(tmp_path / "tasks"), *words])
    (folder,) = (tmp_path / "tasks").iterdir()
    task, own = listed(folder), functions(folder)
    assert task["task"] == folder.name
    assert task["dataset_kwargs"] == {"data_files": {"test": "questions.jsonl"}}
    docs = [
        json.loads(line)
        for line in (folder / "questions.jsonl").read_text("utf-8").split("\n")[:-1]
    ]
    assert len(docs) >= 6
    given = {}
    for doc in docs:
        (picture,) = own.doc_to_visual(doc)
        assert picture.mode == "RGB"
        text = own.doc_to_text(doc)
        (turn,) = own.doc_to_messages(doc)
        assert [part["type"] for part in turn["content"]] == ["image", "text"]
        for name, row in own.process_results(doc, [said(text)]).items():
            given.setdefault(name, []).append(row)
    found = {
        one["metric"]: getattr(own, one["aggregation"])(given[one["metric"]])
        for one in task["metric_list"]
    }
    ours = evaluated(words, tmp_path / "run", compose)
    assert len(found) >= 6 and set(found) <= set(ours)
    assert found == {name: ours[name] for name in found}


def test_what_is_no_task_is_refused(tmp_path):
    with pytest.raises(UserError, match="lmms-eval brings the model"):
        main(["--out", str(tmp_path), *SCENES, "model=llava_tiny"])
    with pytest.raises(UserError, match="lmms-eval asks for answers"):
        main(["--out", str(tmp_path), "data=scenes", "evaluation=retrieval"])
    (tmp_path / "rsvlm.json").write_text('{"evaluation": {"_target_": "os.system"}}', "utf-8")
    with pytest.raises(UserError, match="Write the folder again"):
        RecordedTask(tmp_path)


@pytest.mark.slow
def test_lmms_evals_own_loader_runs_it(tmp_path, compose):
    """In an environment of its own; RSVLM_LMMS_EVAL is the python of one that is there."""
    python = os.environ.get("RSVLM_LMMS_EVAL")
    if not python:
        python = str(tmp_path / "env/bin/python")
        subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "lmms-eval==0.7.3", "torchmetrics",
                        "safetensors", "filelock<4"], check=True)  # fmt: skip
    words = [*SCENES, PARTS, "evaluation=vqa"]
    main(["--out", str(tmp_path / "tasks"), *words])
    (folder,) = (tmp_path / "tasks").iterdir()
    source = Path(__file__).parents[2] / "src"
    env = os.environ | {"PYTHONPATH": str(source), "OPENAI_API_KEY": "none"}
    with serving(lambda body: completion(said(question(body)))) as script:
        command = [python, "-m", "lmms_eval", "--model", "openai", "--model_args",
                   f"model_version=x,base_url={script.url}", "--tasks", folder.name,
                   "--include_path", str(tmp_path / "tasks"), "--batch_size", "1",
                   "--output_path", str(tmp_path / "out")]  # fmt: skip
        done = subprocess.run(
            command, check=False, env=env, capture_output=True, text=True, cwd=tmp_path
        )
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = (tmp_path / "out").rglob("*_results.json")
    theirs = json.loads(path.read_text("utf-8"))["results"][folder.name]
    ours = evaluated(words, tmp_path / "run", compose)
    shared = {k.removesuffix(",none"): v for k, v in theirs.items() if k.endswith(",none")}
    held = {name: value for name, value in shared.items() if name in ours}
    assert len(held) >= 6
    assert held == pytest.approx({name: ours[name] for name in held})
