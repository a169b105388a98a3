"""The removal of work folders, with the real program."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dayfly.errors import ProgramFailed
from dayfly.image.work import remove_tree

FAILS = """\
#!/bin/sh
printf x >> {folder}/calls
[ "$(wc -c < {folder}/calls)" -gt {times} ] && exec /bin/rm "$@"
echo "rm: cannot remove 'x': Directory not empty" >&2
exit 1
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree/below").mkdir(parents=True)
    (tmp_path / "tree/below/file").touch()
    return tmp_path / "tree"


def failing_at_first(monkeypatch: pytest.MonkeyPatch, folder: Path, times: int) -> None:
    """Let `rm` fail so often, as it does when somebody adds files meanwhile."""
    (folder / "rm").write_text(FAILS.format(folder=folder, times=times))
    (folder / "rm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_a_tree_that_still_grew_is_removed(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_at_first(monkeypatch, tmp_path, 2)
    remove_tree(tree)
    assert not tree.exists()


def test_a_tree_that_cannot_be_removed_is_said(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_at_first(monkeypatch, tmp_path, 1000)
    with pytest.raises(ProgramFailed, match="Directory not empty"):
        remove_tree(tree)
    assert (tree / "below/file").exists()
