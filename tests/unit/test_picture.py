"""The picture of the architecture is the one that its source describes."""

from __future__ import annotations

import html
import re
from collections import Counter
from pathlib import Path

FOLDER = Path(__file__).parent.parent.parent / "docs/explanation"
SOURCE = re.sub(r"^\s*//.*$", "", (FOLDER / "architecture.dot").read_text(), flags=re.MULTILINE)
PICTURE = (FOLDER / "architecture.svg").read_text()


def source_texts() -> Counter[str]:
    """The lines of all labels in the source."""
    labels = re.findall(r'\blabel="([^"]*)"', SOURCE)
    return Counter(line for label in labels for line in label.split(r"\n"))


def picture_texts() -> Counter[str]:
    """The texts that the picture shows."""
    return Counter(html.unescape(text).replace("\xa0", " ") for text in re.findall(r"<text [^>]*>([^<]*)</text>", PICTURE))


def test_the_picture_shows_the_texts_of_its_source() -> None:
    assert len(source_texts()) > 10
    assert picture_texts() == source_texts(), "`make picture` draws it again"


def test_the_picture_has_the_arrows_of_its_source() -> None:
    arrows = {f"{start}->{end}" for start, end in re.findall(r"(\w+) -> (\w+)(?! \[style=invis\])\b", SOURCE)}
    drawn = {html.unescape(title) for title in re.findall(r'class="edge">\s*<title>([^<]*)</title>', PICTURE)}
    assert drawn == arrows, "`make picture` draws it again"
