"""A template is made once for all who want it, and nothing is left of one that came to nothing."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from dayfly.errors import NoSpace, Refused
from dayfly.provision.templates.creation import _once
from dayfly.provision.templates.key import Key
from dayfly.provision.templates.publish import write
from dayfly.provision.templates.store import FILES, About, Kind, Store
from dayfly.settings import Settings

WANTED = Key({"image": "sha256:1"}, "1-2")
SNAPSHOT = {"version": 1, "qemu": "7.2.22", "agent": "idle", "config": {}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "templates", Kind.USER)


def fill(store: Store, folder: Path) -> None:
    parts = {part: os.memfd_create(part) for part in FILES}
    for part, descriptor in parts.items():
        os.write(descriptor, part.encode())
    write(folder, store.kind, parts, About(WANTED.facts, 1 << 30, "2026-01-01", 1.0, SNAPSHOT, {}))
    for descriptor in parts.values():
        os.close(descriptor)


def test_by_one_of_many_who_want_it_at_once(store: Store) -> None:
    made: list[Path] = []
    found: list[str] = []

    def make(folder: Path) -> None:
        made.append(folder)
        fill(store, folder)

    def want() -> None:
        template = _once(store, WANTED, Settings(), make)
        found.append(os.pread(template.memory, 10, 0).decode())
        template.close()

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert found == ["memory"] * 8


def test_what_came_to_nothing_leaves_nothing(store: Store) -> None:
    def failing(folder: Path) -> None:
        (folder / "memory").write_bytes(b"half of it")
        raise NoSpace("no space left")

    with pytest.raises(NoSpace):
        _once(store, WANTED, Settings(), failing)
    assert list(store.folder.iterdir()) == []


def test_a_folder_that_goes_away_meanwhile(store: Store) -> None:
    def gone(folder: Path) -> None:
        folder.rmdir()
        raise NoSpace("no space left")

    with pytest.raises(NoSpace):
        _once(store, WANTED, Settings(), gone)


def test_not_where_others_can_write(store: Store) -> None:
    store.folder.mkdir()
    store.folder.chmod(0o777)
    with pytest.raises(Refused, match="is writable by users other"):
        _once(store, WANTED, Settings(), lambda folder: fill(store, folder))


def test_one_over_the_limit_stays_until_the_next(store: Store) -> None:
    settings = replace(Settings(), templates_limit=1)
    _once(store, WANTED, settings, lambda folder: fill(store, folder)).close()
    assert [path.name for path in store.folder.iterdir()] == [WANTED.name]
