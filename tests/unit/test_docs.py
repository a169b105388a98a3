"""What the documentation names is there: links, options, modules, files, tests, settings, reasons, fields."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from dayfly import disknames, settings
from dayfly.cli.commands import COMMANDS
from dayfly.cli.toplevel import toplevel_parser
from dayfly.image.inspection import gate
from dayfly.image.inspection.report import Contents
from dayfly.job.usage import SCHEMA_FILE, UsageRecord
from dayfly.settings import Settings
from dayfly.units import parse_duration, parse_size

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("changes/*.md")])
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in PAGES}
CODE = {name: re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL) for name, text in TEXTS.items()}
CONFIG_FIELDS = {
    f"dayfly.{name}"
    for name in json.loads((ROOT / "src/dayfly/image/config.schema.json").read_text())["properties"]["dayfly"]["properties"]
}
ALL = pytest.mark.parametrize("name", TEXTS)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@ALL
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[name]):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (ROOT / name).parent / path if path else ROOT / name
        assert found.exists(), target
        assert not anchor or anchor in anchors(found.read_text()), target


def command_lines(name: str) -> Iterator[list[str]]:
    """The words after `dayfly` of each command line in a page's code."""
    for code in CODE[name]:
        for line in code.strip("`").splitlines():
            for match in re.finditer(r"(?:^|[$|;(] ?|bin/|sudo |echo\"? )dayfly ([^`]*)", line):
                try:
                    yield shlex.split(match[1], comments=True)
                except ValueError:  # a script in quotes over several lines
                    yield match[1].split()


def parsers(parser: argparse.ArgumentParser, words: list[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser that the first words lead to, and the words that are left."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) and words and words[0] in action.choices:
            return parsers(action.choices[words[0]], words[1:])
    return parser, words


@pytest.fixture(scope="module")
def whole() -> argparse.ArgumentParser:
    return toplevel_parser()


@ALL
def test_options_exist(name: str, whole: argparse.ArgumentParser) -> None:
    for words in command_lines(name):
        parser, rest = parsers(whole, words)
        own = rest[: rest.index("--")] if "--" in rest else rest
        for word in own:
            if word in ("|", ";", "&&", ">"):
                break
            option = word.partition("=")[0].rstrip(",.")
            assert not option.startswith("-") or option in parser._option_string_actions, f"{words}: {option}"
        assert words[0] in COMMANDS or not re.fullmatch(r"[a-z]+", words[0]), words


def test_the_check_of_options_sees_them() -> None:
    lines = [words for name in TEXTS for words in command_lines(name)]
    assert len(lines) > 60
    assert any("--timeout" in words for words in lines)


@ALL
def test_modules_exist(name: str) -> None:
    for module in re.findall(r"`(dayfly(?:\.[A-Za-z_]+)+)`", TEXTS[name]):
        if module in CONFIG_FIELDS:
            continue
        try:
            importlib.import_module(module)
        except ModuleNotFoundError:
            outer, _, attribute = module.rpartition(".")
            assert hasattr(importlib.import_module(outer), attribute), module


@ALL
def test_files_of_the_repository_exist(name: str) -> None:
    for path in re.findall(r"`((?:src|docs|tests|tools|guest|bench|changes)/[^`\s*{…]*)`", TEXTS[name]):
        assert (ROOT / path).exists(), path


@pytest.fixture(scope="module")
def tests() -> set[str]:
    """The names of all tests."""
    return {name for path in ROOT.glob("tests/**/test_*.py") for name in re.findall(r"def (test_\w+)\(", path.read_text())}


@ALL
def test_tests_exist(name: str, tests: set[str]) -> None:
    for test in re.findall(r"`(test_\w+)`", TEXTS[name]):
        assert test in tests, test


def test_every_page_is_on_the_map() -> None:
    linked = set(re.findall(r"\]\(([^)#]+)\)", TEXTS["docs/index.md"]))
    pages = {name.removeprefix("docs/") for name in TEXTS if name.startswith("docs/") and "/decisions/" not in name}
    pages |= {f"man/{path.name}" for path in ROOT.glob("docs/man/*.1")}
    assert pages - linked == {"index.md"}


def test_every_command_is_in_the_readme() -> None:
    assert set(re.findall(r"^\| `dayfly (\w+)", TEXTS["README.md"], re.MULTILINE)) == set(COMMANDS)


def test_decisions_have_numbers_of_their_own() -> None:
    numbers = [path.name[:4] for path in ROOT.glob("docs/decisions/*.md")]
    assert len(numbers) == len(set(numbers))


def rows(name: str, heading: str = "") -> list[list[str]]:
    """The cells of the table rows whose first cell is code, on a page or below one of its headings."""
    text = TEXTS[name].partition(f"## {heading}\n")[2] if heading else TEXTS[name]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")]


def test_settings_are_all_described_with_their_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(settings, "home", lambda: "~")
    described = {row[0].strip("`"): row[1:3] for row in rows("docs/reference/settings.md") if "." in row[0] and len(row) == 4}
    assert list(described) == list(settings._READERS)
    defaults = Settings()
    for key, (kind, default) in described.items():
        value, text = getattr(defaults, key.replace(".", "_")), default.strip("`")
        readers: dict[str, Callable[[str], object]] = {
            "size": parse_size,
            "size, or 0": int,
            "duration": parse_duration,
            "number, 1 to 1024": int,
            "number, 0 to 100": int,
        }
        readers["`true` or `false`"] = lambda text: text == "true"
        expected = value if kind in readers else str(value or "") or "empty"
        assert readers.get(kind, str)(text) == expected, key


def test_reasons_are_all_described() -> None:
    schema = json.loads(SCHEMA_FILE.read_text())
    reasons = schema["properties"]["end"]["oneOf"][1]["properties"]["reason"]["enum"]
    assert [row[0].strip("`") for row in rows("docs/reference/usage-record.md", "Reasons")] == reasons


def test_fields_of_the_record_are_all_described() -> None:
    schema = json.loads(SCHEMA_FILE.read_text())["properties"]
    schema["end"] = schema["end"]["oneOf"][1]
    expected = {
        f"{name}.{inner}" if inner else name
        for name, member in schema.items()
        for inner in (member.get("properties") or {"": None})
    }
    table = TEXTS["docs/reference/usage-record.md"].partition("\n## ")[0]
    first = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {field for cell in first for field in re.findall(r"`([\w.]+)`", cell)} == expected
    assert set(schema) == {field.name for field in fields(UsageRecord)}


def test_kinds_of_a_gate_are_all_described() -> None:
    described = [row[0].strip("`").removesuffix(">DAYS") for row in rows("docs/how-to/inspect-an-image.md")]
    assert described == list(gate.Kind)
    help_ = next(
        line for line in TEXTS["docs/how-to/inspect-an-image.md"].splitlines() if line.startswith("$ dayfly image inspect user/")
    )
    assert gate.parse(shlex.split(help_)[shlex.split(help_).index("--fail-on") + 1])


def test_fields_of_an_inspection_are_all_described() -> None:
    schema = json.loads((ROOT / "src/dayfly/image/inspection/report.schema.json").read_text())["properties"]
    inside = {f"contents.{name}" for name in schema.pop("contents")["properties"]}
    cells = [row[0] for row in rows("docs/reference/inspection.md")]
    assert {field for cell in cells for field in re.findall(r"`([\w.]+)`", cell)} == set(schema) | inside
    assert inside == {f"contents.{field.name}" for field in fields(Contents)}


def test_files_are_those_that_the_code_names() -> None:
    page = TEXTS["docs/reference/files.md"]
    named = {name: value for name, value in vars(disknames).items() if name.isupper() and isinstance(value, str)}
    assert len(named) > 20
    written = {name: value.partition("{")[0] for name, value in named.items()}
    assert [name for name, value in written.items() if value not in page] == []
