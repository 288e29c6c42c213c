"""`rsvlm lmms-eval --out tasks experiment=eval_vqa_rsvqa_lr data.root=…`: a task for lmms-eval.

The words are those of `rsvlm eval`, without model= and ckpt=: lmms-eval brings the model. The
folder holds the questions, the pictures as they are sent, and the truths; lmms-eval's own loader
reads it, and rsvlm measures the answers under the recipe's protocol and names:

    lmms_eval --include_path tasks --tasks rsvlm_rsvqa_lr_test_vhm --model qwen2_5_vl …

lmms-eval needs an environment of its own (it pins other versions of what Hydra and W&B need): with
torchmetrics, safetensors, filelock<4 (lmms-eval 0.7.3 imports what later ones no longer have) and
rsvlm itself, by pip's --no-deps.

Boxes are asked for as fractions of the picture; model.boxes= names another convention, and
model.system= another system's words. --limit takes that many samples, spread over the split.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsvlm.errors import UserError
from rsvlm.files import write_text, written_whole

#: What an endpoint needs and nothing here asks for.
_MODEL = ("model=api", "model.url=http://127.0.0.1", "model.name=lmms-eval", "model.key_env=null")
_UTILS = '''"""The functions of a task; `rsvlm lmms-eval` wrote this file."""

from pathlib import Path

from rsvlm.evaluation.lmms_tasks import RecordedTask

TASK = RecordedTask.at(str(Path(__file__).parent))
doc_to_visual, doc_to_text = TASK.pictures, TASK.text
doc_to_messages, process_results = TASK.messages, TASK.results

'''


def main(argv: list[str]) -> None:
    """Writes a folder of tasks, one for each test split."""
    parser = argparse.ArgumentParser(
        prog="rsvlm lmms-eval",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", required=True, type=Path, help="folder of the tasks")
    parser.add_argument("--limit", type=int, help="this many samples, spread over the split")
    parser.add_argument("--config-dir", type=Path, help="your own folder of configurations")
    parser.add_argument("words", nargs="+", help="experiment=… data.root=…, as of rsvlm eval")
    args = parser.parse_args(argv)
    for word in args.words:
        if word.split("=", 1)[0] in ("model", "ckpt", "init"):
            raise UserError(f"{word}: lmms-eval brings the model; leave it out.")
    if args.limit is not None and args.limit < 1:
        raise UserError(f"--limit {args.limit}: give 1 or more.")

    from rsvlm.app.build import build_data, build_task
    from rsvlm.app.guards import check
    from rsvlm.config.compose import compose
    from rsvlm.evaluation.lmms_tasks import can_be_a_task
    from rsvlm.inference.build import build_model

    named = {word.split("=", 1)[0] for word in args.words}
    task_word = [] if named & {"experiment", "task"} else ["task=captioner"]
    cfg = compose("eval", [*_MODEL, *task_word, *args.words], args.config_dir)
    check(cfg)
    evaluation_words = _plain(cfg.evaluation)
    task = build_task(cfg, build_model(cfg, args.out))
    if not can_be_a_task(task.evaluation):
        raise UserError(
            f"{args.words[0]} measures a {type(task.evaluation).__name__}, and lmms-eval asks for "
            "answers: take a recipe of captions, questions, boxes or points (rsvlm list recipes)."
        )
    data = build_data(cfg, task)
    for split in data.test_splits:
        data.use_test(split)
        name = _write(task, data, evaluation_words, args.out, args.limit)
        print(f"{args.out / name}: lmms_eval --include_path {args.out} --tasks {name} --model …")


def _plain(node: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf

    held = OmegaConf.to_container(node, resolve=True)
    assert isinstance(held, dict)
    return {str(key): value for key, value in held.items()}


def _write(
    task: Any, data: Any, evaluation: Mapping[str, Any], out: Path, limit: int | None
) -> str:
    """One split's task; its name."""
    import torch

    from rsvlm.data.sample import Answer
    from rsvlm.evaluation.lmms_tasks import ABOUT, QUESTIONS
    from rsvlm.metrics.metric_definitions import METRICS

    measured, dataset = task.evaluation, data.dataset("test")
    measured.stage = "test"
    measured.start(task.model, dataset, torch.device("cpu"))
    if limit is not None and limit < len(dataset):
        kept = {n * len(dataset) // limit for n in range(limit)}
        data.leave_out(frozenset(range(len(dataset))) - kept)
    task.model.generate = lambda batch, **_: [Answer("") for _ in batch.messages]
    facts = measured.known
    name = re.sub(r"\W+", "_", f"rsvlm_{facts.name}_{facts.split}_{measured.protocol}").lower()
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    rows, records = [], []
    for batch in data.test_dataloader():
        for skipped in batch.skipped:
            print(f"left out: {skipped}")
        found = measured.predict(task.model, batch)
        records += found
        for record, messages, seen in zip(found, batch.messages, batch.geometry, strict=True):
            held, pictures = _messages(messages, folder)
            sides = [list(seen[0].source), list(seen[0].size)] if seen else []
            rows.append({
                "id": str(record.id),
                "answer": record.answer or " | ".join(record.references),
                "messages": json.dumps(held, ensure_ascii=False),
                "pictures": json.dumps(pictures),
                "sides": json.dumps(sides),
                "record": record.line(),
            })  # fmt: skip
    if not records:
        raise UserError(measured.nothing(facts))
    names = _names(measured, records, facts)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    write_text(folder / QUESTIONS, "\n".join(lines) + "\n")
    model = task.model
    about = {
        "evaluation": {**evaluation, "bootstrap": 0},
        "facts": dataclasses.asdict(facts),
        "names": names,
        "boxes": model.codec.name if model.codec is not None else None,
    }
    write_text(folder / ABOUT, json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    values = [f"def {word}(rows):\n    return TASK.value({word!r}, rows)\n" for word in names]
    write_text(folder / "utils.py", _UTILS + "\n" + "\n\n".join(values))
    better = {word: METRICS[word].higher for word in names}
    tokens = int(measured.options.get("max_new_tokens") or model.endpoint.max_tokens)
    write_text(folder / f"{name}.yaml", _task(name, names, better, tokens, measured.protocol))
    return name


def _messages(messages: Any, folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """A dialogue with its pictures as files: {"image": n} in the place of each."""
    held: list[dict[str, Any]] = []
    names: list[str] = []
    for message in messages:
        content = message["content"]
        if isinstance(content, str):
            held.append(message)
            continue
        parts: list[dict[str, Any]] = []
        for part in content:
            if part["type"] != "image_url":
                parts.append({"type": "text", "text": part["text"]})
                continue
            kind, _, data = part["image_url"]["url"].partition(";base64,")
            content_of = base64.b64decode(data)
            digest = hashlib.sha256(content_of).hexdigest()[:16]  # questions share their pictures
            name = f"pictures/{digest}.{'png' if kind.endswith('png') else 'jpg'}"
            if not (folder / name).is_file():
                (folder / "pictures").mkdir(exist_ok=True)
                with written_whole(folder / name) as file:
                    file.write_bytes(content_of)
            parts.append({"image": len(names)})
            names.append(name)
        held.append({"role": message["role"], "content": parts})
    return held, names


def _names(measured: Any, records: Any, facts: Any) -> dict[str, str]:
    """Metric word -> full name, of those that the truths themselves would get."""
    from rsvlm.evaluation.records import result_rows

    right = [
        dataclasses.replace(
            one,
            prediction=one.answer or (one.references[0] if one.references else ""),
            boxes=one.true_boxes,
            angles=one.true_angles,
        )
        for one in records
    ]
    found = measured.measure(measured.complete(right, facts), facts)
    rows = result_rows("test", facts.name, facts.split, measured.protocol, found, skipped=0)
    return {word: row["name"] for word, row in zip(found.values, rows, strict=True)}


def _task(
    name: str, names: Mapping[str, str], better: Mapping[str, bool], tokens: int, protocol: str
) -> str:
    """The task in lmms-eval's form; a document of YAML, since `!function` is a tag of its own."""
    from rsvlm.evaluation.lmms_tasks import QUESTIONS

    metrics = "".join(
        f"  - metric: {names[word]}\n    aggregation: !function utils.{word}\n"
        f"    higher_is_better: {str(higher).lower()}\n"
        for word, higher in better.items()
    )
    return f"""# rsvlm's protocol {protocol}; rsvlm lmms-eval wrote this file.
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {QUESTIONS}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.doc_to_visual
doc_to_text: !function utils.doc_to_text
doc_to_messages: !function utils.doc_to_messages
doc_to_target: answer
generation_kwargs:
  max_new_tokens: {tokens}
  temperature: 0
  do_sample: false
process_results: !function utils.process_results
metric_list:
{metrics}metadata:
  version: 1.0
"""
