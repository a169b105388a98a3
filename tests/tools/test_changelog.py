"""towncrier reads every fragment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_next_release_has_every_fragment() -> None:
    built = subprocess.run(
        [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "0.0.0", "--date", "2000-01-01"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert built.stdout.startswith("## 0.0.0 (2000-01-01)")
    for fragment in (ROOT / "changes").glob("*.*.md"):
        assert " ".join(fragment.read_text().split()) in " ".join(built.stdout.split()), fragment.name
    assert all(path.name == "README.md" or path.name.startswith("+") for path in (ROOT / "changes").iterdir())
