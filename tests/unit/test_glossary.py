"""Pages, help and sources do not use the words that docs/reference/glossary.md lists as words not to use."""

from __future__ import annotations

import argparse
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from dayfly.cli.commands import COMMANDS
from dayfly.cli.toplevel import toplevel_parser

ROOT = Path(__file__).parent.parent.parent
GLOSSARY = ROOT / "docs/reference/glossary.md"
PAST = {"docs/decisions"}
"""Folders whose pages are not changed when a word is."""


def _is_held(page: Path) -> bool:
    names = {str(page.relative_to(ROOT)), str(page.parent.relative_to(ROOT))}
    return page != GLOSSARY and not names & PAST


FOUND = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("docs/man/parts/*.roff")),
]
SOURCES = sorted(ROOT.glob("src/**/*.py"))
PAGES = [page for page in FOUND if _is_held(page)]


def words_not_to_use() -> list[re.Pattern[str]]:
    """A pattern for each word in the second table of the glossary."""
    table = GLOSSARY.read_text().partition("## Words not to use\n")[2]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return [pattern(word) for cell in cells for word in re.findall(r"`([^`]+)`", cell)]


def pattern(word: str) -> re.Pattern[str]:
    """Finds a word or phrase of the table: over line ends too, and with any ending where it ends in an ellipsis."""
    text = re.escape(word.removesuffix("…")).replace(r"\ ", r"\s+")
    end = r"\w*" if word.endswith("…") else r"\b" if word[-1].isalnum() else ""
    return re.compile(rf"\b{text}{end}", re.IGNORECASE)


def found(text: str) -> list[str]:
    """The words not to use that a text has."""
    return [match[0] for words in WORDS for match in words.finditer(text)]


def prose(text: str) -> str:
    """A page without its code."""
    return re.sub(r"```.*?```|`[^`\n]+`", "CODE", text, flags=re.DOTALL)


def texts_of(source: Path) -> Iterator[tuple[int, str]]:
    """The comments, docstrings and other strings of a Python file, each with its line."""
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    with source.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type in kinds:
                yield token.start[0], prose(token.string)


def helps(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Every text that a parser and its commands show, with the command that shows it."""
    for text in (parser.description, parser.epilog):
        yield parser.prog, text or ""
    for action in parser._actions:
        yield parser.prog, action.help or ""
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                yield parser.prog, choice.help or ""
            for below in action.choices.values():
                yield from helps(below)


WORDS = words_not_to_use()


def test_the_table_has_words_and_no_page_escapes() -> None:
    assert len(WORDS) > 20
    assert len(PAGES) > 30
    assert len(SOURCES) > 200
    assert found("It mended the sym-\nlink; a VM\njob.") == ["mended", "VM\njob"]
    assert found("a recommended outstanding container image has not started") == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_use_the_words_of_the_glossary(page: Path) -> None:
    assert found(prose(page.read_text())) == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sources_use_the_words_of_the_glossary(source: Path) -> None:
    assert [(line, found(text)) for line, text in texts_of(source) if found(text)] == []


def test_help_uses_the_words_of_the_glossary() -> None:
    texts = [*helps(toplevel_parser()), *COMMANDS.items()]
    assert len(texts) > 200
    assert [(command, found(text), text) for command, text in texts if found(text)] == []


def test_every_word_has_a_meaning() -> None:
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", GLOSSARY.read_text().partition("## Words not to use")[0], re.MULTILINE)
    words = [word for word, meaning in rows if word != "word" and meaning]
    assert words == sorted(words, key=str.casefold)
    assert len(words) > 30
