"""What the wheel holds beside the package: `conf/`, and what papers give of `experiments/`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Conf(BuildHookInterface):  # type: ignore[misc]
    """Forces each group of `conf/` into the wheel, and each `expected.yaml`, which tables show.

    A `force-include` of the whole folder in pyproject.toml would take `conf/local/` along, which is
    one person's own, and an editable install would get a copy that goes stale.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling; `version` is `standard` or `editable`."""
        if version != "standard":
            return
        for path in sorted(Path(self.root, "conf").iterdir()):
            if path.name != "local":
                build_data["force_include"][str(path)] = f"rsvlm/conf/{path.name}"
        for path in sorted(Path(self.root, "experiments").glob("*/expected.yaml")):
            place = f"rsvlm/experiments/{path.parent.name}/{path.name}"
            build_data["force_include"][str(path)] = place
