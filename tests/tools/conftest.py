"""What the tests of signed lists share: authorities, people who sign, and a library that follows a list."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.framework.authority import Authority, Endorser
from tests.framework.image_lists import World

from dayfly.image.library import Library


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Authority]:
    folder = tmp_path_factory.mktemp("authorities")
    return Authority(folder / "one", "First CA"), Authority(folder / "two", "Second CA")


@pytest.fixture(scope="module")
def endorsers(authorities: tuple[Authority, Authority]) -> dict[str, Endorser]:
    one, two = authorities
    return {
        "ada": one.endorser("Ada"),
        "bob": one.endorser("Bob"),
        "expired": one.endorser("Expired", days=-1),
        "server": one.endorser("Server", purpose="serverAuth"),
        "stranger": two.endorser("Ada"),
    }


@pytest.fixture
def world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authorities: tuple[Authority, Authority], endorsers: dict[str, Endorser]
) -> World:
    (tmp_path / "published").mkdir()
    settings = tmp_path / "settings.toml"
    settings.write_text(f'[library]\nuser = "{tmp_path}/library"\n')
    monkeypatch.setenv("DAYFLY_SETTINGS", str(settings))
    return World(tmp_path, authorities[0], endorsers["ada"], Library(tmp_path / "library"), Library(tmp_path / "source"))


@pytest.fixture
def followed(world: World) -> World:
    """A world whose library follows a list with one:1 and two:1."""
    world.offer(world.ada.sign(world.list(world.image("one:1", 1), world.image("two:1", 2))))
    assert world.subscribe() == 0
    return world
