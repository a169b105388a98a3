"""What import-linter's contract of layers does not say: no circle of imports, and who writes messages."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

SOURCE = Path(__file__).parent.parent.parent / "src"
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path for path in SOURCE.rglob("*.py")
}


def imported(path: Path) -> set[str]:
    """The modules of Dayfly that a module needs when it runs."""
    tree = ast.parse(path.read_text())
    for_checkers = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node not in for_checkers:
            found |= {
                f"{node.module}.{name.name}" if f"{node.module}.{name.name}" in MODULES else node.module for name in node.names
            }
    return found & MODULES.keys()


def test_no_circle_of_imports() -> None:
    graph = {name: imported(path) - {name} for name, path in MODULES.items()}
    assert len(graph) > 200
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def told(path: Path) -> list[int]:
    """The lines on which a module writes text to stdout or stderr."""
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    writing = ("sys.stdout.write", "sys.stderr.write", "print")
    return [call.lineno for call in calls if ast.unparse(call) in writing]


def test_only_the_command_line_writes_messages() -> None:
    """Everything else returns what there is to say, or passes it to a `Notify`."""
    found = {name: told(path) for name, path in MODULES.items() if not name.startswith("dayfly.cli")}
    assert {name: lines for name, lines in found.items() if lines} == {}
    assert told(MODULES["dayfly.cli.notices"])
