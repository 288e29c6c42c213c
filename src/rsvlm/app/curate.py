"""`rsvlm curate`: a pipeline from its configuration, its progress, what it kept and dropped."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rsvlm.config.compose import options
from rsvlm.config.instantiate import instantiate
from rsvlm.config.validate import check
from rsvlm.curate import sheet
from rsvlm.curate.engine import Pipeline, Progress, Report, losses, run
from rsvlm.curate.plan import DRY
from rsvlm.errors import UserError
from rsvlm.files import written_whole

#: Seconds between lines of progress where no terminal shows them.
_PAUSE = 15.0


def curate(cfg: DictConfig) -> Report:
    """Runs the pipeline of a composed configuration, and says what became of the records.

    Raises:
        UserError: no pipeline or no folder; what the engine and the stages raise.
    """
    if cfg.pipeline is None:
        raise UserError(f"pipeline= says what is built: {', '.join(options('pipeline'))}.")
    if not cfg.out:
        raise UserError("out= is the folder that the data set is written to.")
    check(cfg)
    out = Path(cfg.out).expanduser()
    # A name with an ending is one file: it is made in a folder beside, and copied when whole.
    folder = out.with_name(f"{out.stem}_curation") if out.suffix else out
    if cfg.dry_run:
        folder = folder / DRY
    pipeline = built(cfg)
    report = run(
        pipeline,
        folder,
        instantiate(cfg.engine),
        limit=cfg.limit,
        dry_run=cfg.dry_run,
        keep=cfg.keep_parts,
        progress=_Line(),
    )
    print(told(report))
    if cfg.dry_run:
        path = folder / "sheet.png"
        sheet.draw(sheet.sample_of(report.kept), losses(report), path)
        print(f"{path}: some of what was kept, and of what was dropped for each reason")
    elif out.suffix:
        print(f"wrote {_one_file(report, out)}")
    else:
        print(f"wrote {out}" if report.fresh else f"{out} is whole already")
    for note in report.manifest["written"].get("notes", []):
        print(f"  {note}")
    if not cfg.dry_run and (report.fresh or not (folder / "card.html").is_file()):
        from rsvlm.curate import card  # opens the set, with all readers

        print(f"card: {card.write(folder)}")
    return report


def built(cfg: DictConfig) -> Pipeline:
    """The pipeline of a composed configuration."""
    node = cfg.pipeline
    settings: Any = OmegaConf.to_container(node, resolve=True)
    stages = {str(label): _made(one) for label, one in (node.stages or {}).items() if one}
    return Pipeline(str(node.name), _made(node.source), stages, _made(node.writer), settings)


def _made(node: Any) -> Any:
    # Plain lists and dicts, which other processes take without Hydra.
    return instantiate(node, _convert_="all")


def told(report: Report) -> str:
    """What was read, kept and dropped, a line for each stage and reason."""
    manifest = report.manifest
    records = manifest["records"]
    lines = [f"{manifest['pipeline']}: {records['read']} records read, {records['kept']} kept"]
    wide = max((len(stage["label"]) for stage in manifest["stages"]), default=0)
    for stage in manifest["stages"]:
        lost = sum(stage["dropped"].values())
        line = f"  {stage['label']:{wide}s}  {stage['came']:>9d} -> {stage['went']:<9d}"
        lines.append(f"{line} {stage['name']}{f', {lost} dropped' if lost else ''}")
        for reason, number in sorted(stage["dropped"].items(), key=lambda one: -one[1]):
            lines.append(f"  {'':{wide}s}  {number:>9d}    {reason}")
    return "\n".join(lines)


def _one_file(report: Report, out: Path) -> Path:
    files = report.manifest["written"].get("files") or []
    made = next((report.folder / name for name in files if name.endswith(out.suffix)), None)
    if made is None:
        raise UserError(
            f"out={out} is one file, and this pipeline writes {', '.join(files) or 'none'} into "
            f"{report.folder}: give a folder."
        )
    with written_whole(out) as beside:
        shutil.copyfile(made, beside)
    return out


class _Line:
    """One line that counts, or one now and then where no terminal is."""

    def __init__(self) -> None:
        self.at = time.monotonic()
        self.live = sys.stderr.isatty()

    def __call__(self, done: Progress) -> None:
        """Shows how far a run is."""
        last = bool(done.of) and done.parts >= done.of
        now = time.monotonic()
        if not self.live and now - self.at < _PAUSE:
            return
        self.at = now
        of = f" of {done.of}" if done.of else ""
        what = ", ".join(done.labels[:3]) + (", ..." if len(done.labels) > 3 else "")
        line = f"step {done.step} of {done.steps} ({what}): part {done.parts}{of}, "
        line += f"{done.came} records in, {done.went} out"
        end = "\n" if last or not self.live else ""
        print(f"\r{line:100s}" if self.live else line, end=end, file=sys.stderr, flush=True)
