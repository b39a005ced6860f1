"""Rules of the repository that no tool has. Each message says what to do instead."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from headrace import errors, events
from headrace.protocol.status import HTTP_STATUS
from headrace.repository.skill_mistakes import validated
from headrace.repository.skill_yaml import json_schema
from headrace.repository.yaml_tree import read_tree
from headrace.telemetry import logs, metrics, statistics

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "headrace"
MODULES = sorted(PACKAGE.rglob("*.py"))
OTHERS = sorted(
    path
    for folder in ("tests", "demo", "benchmarks", "conformance")
    for path in (ROOT / folder).rglob("*.py")
    if "__pycache__" not in path.parts
)

POLICIES = (
    "batching/policy.py",
    "batching/latency.py",
    "batching/golden_point.py",
    "admission/forecast.py",
    "admission/gate.py",
    "admission/lag.py",
    "admission/terms.py",
    "lifecycle/state.py",
    "lifecycle/changes.py",
    "lifecycle/budget.py",
    "lifecycle/eviction.py",
    "lifecycle/ledger.py",
    "faults/breaker.py",
    "faults/inquiry.py",
    "faults/quarantine.py",
    "faults/window.py",
)
IMPURE = {"asyncio", "threading", "time", "random", "socket", "logging"}

UNHEARD: set[str] = set()
"""Events that nobody listens to, on purpose."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(tree: ast.Module) -> set[str]:
    """Top-level names of all modules imported anywhere in a file."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def test_the_layout_in_architecture_md_is_the_tree():
    page = ROOT / "ARCHITECTURE.md"
    layout = page.read_text().partition("src/headrace/\n")[2].partition("```")[0]
    named = set(re.findall(r"^[├└]── (\S+)", layout, re.MULTILINE))
    packages = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    files = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py", "__main__.py"}
    assert named == packages | files, "say in ARCHITECTURE.md's layout what is there, and nothing else"


@pytest.mark.parametrize("module", POLICIES)
def test_a_policy_decides_from_its_arguments(module):
    impure = imported(tree_of(PACKAGE / module)) & IMPURE
    assert not impure, f"pass what {module} needs of {impure} as an argument: it has to stay a pure function"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_why_it_exists(path):
    assert ast.get_docstring(tree_of(path)), f"begin {name_of(path)} with a docstring: why it exists"


def test_every_setting_has_its_reason_below_it():
    classes = [node for node in tree_of(PACKAGE / "config.py").body if isinstance(node, ast.ClassDef)]
    pairs = [pair for each in classes for pair in zip(each.body, [*each.body[1:], None], strict=True)]
    for field, below in pairs:
        if isinstance(field, ast.AnnAssign):
            is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            assert is_text, f"write below {ast.unparse(field.target)} what it is, its unit and its reason"


def test_every_error_class_has_its_status():
    classes = {each for _, each in inspect.getmembers(errors, inspect.isclass)}
    ours = {each for each in classes if issubclass(each, errors.HeadraceError)}
    assert set(HTTP_STATUS) == ours, "put each error class into protocol/status.py's table"


def test_every_event_has_a_listener():
    declared = {each.__name__ for each in events.Event.__args__}
    heard = {
        node.cls.id
        for listener in (logs, metrics, statistics)
        for node in ast.walk(ast.parse(inspect.getsource(listener)))
        if isinstance(node, ast.MatchClass) and isinstance(node.cls, ast.Name)
    }
    assert declared - heard == UNHEARD, "listen to the event in telemetry/, or list it in UNHEARD"


def test_every_metric_is_documented_with_its_text():
    page = (ROOT / "docs" / "metrics.md").read_text()
    documented = dict(re.findall(r"^\| `(\w+)` \| \w+ \| [^|]+ \| (.+) \|$", page, re.MULTILINE))
    counters = {f"{name}_total": text for name, text in metrics.COUNTERS.items()}
    expected = {**metrics.HISTOGRAMS, **counters, **metrics.GAUGES}
    assert documented == expected, "keep the table in docs/metrics.md equal to telemetry/metrics.py"


@pytest.mark.parametrize("path", [path for path in MODULES if "__all__" in path.read_text()], ids=name_of)
def test_exported_names_are_there_and_sorted(path):
    tree = tree_of(path)
    exported = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    assert list(exported) == sorted(exported), f"sort __all__ in {name_of(path)}"
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {
        each.asname or each.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for each in node.names
    }
    assert set(exported) <= names, f"export from {name_of(path)} what it has"


EXCUSES = {
    "noqa": re.compile(r"#\s*noqa(?!: [A-Z]+[0-9]+)"),
    "type: ignore": re.compile(r"#\s*type:\s*ignore(?!\[[a-z-]+)"),
    "pragma: no cover": re.compile(r"#\s*pragma:\s*no cover(?! - \w)"),
}


@pytest.mark.parametrize("path", MODULES + [path for path in OTHERS if path != Path(__file__)], ids=name_of)
def test_every_excuse_gives_a_code_or_a_reason(path):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        for kind, bare in EXCUSES.items():
            assert not bare.search(line), f"{name_of(path)}:{number}: say which rule, or why, after '{kind}'"


BLOCKS = re.findall(
    r"^```yaml\n(.*?)^```", (ROOT / "docs" / "skills.md").read_text(), re.MULTILINE | re.DOTALL
)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_what_docs_skills_md_shows_of_skill_yaml_can_be_written_so(block):
    _, mistakes, _ = validated(read_tree(block))
    assert not mistakes


def test_docs_skills_md_shows_every_key_of_skill_yaml_but_the_rare_ones():
    page = (ROOT / "docs" / "skills.md").read_text()
    rare = {"filter", "datatype", "reduced", "block", "std", "ids", "mask", "types", "tensors"}
    keys = {
        key
        for section in json_schema()["$defs"].values()
        for key in section.get("properties", {})
        if key not in rare
    }
    missing = {key for key in keys if not re.search(rf"\b{key}\b", page)}
    assert not missing, "show them in docs/skills.md, or say here that they are rare"
