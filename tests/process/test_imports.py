"""What a command imports: each module costs every start of it (docs/decisions/0030, 0180)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dayfly.cli.commands import COMMANDS
from tests.framework.imports import imported

HEAVY = (
    "ast asyncio dataclasses datetime dis email gettext hashlib http inspect ipaddress json.tool locale logging multiprocessing "
    "ntpath qemu random shutil ssl string subprocess tempfile threading tokenize tomllib traceback typing argcomplete "
    "pycdlib"
)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """That of a user without settings."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("DAYFLY_", "XDG_"))}
    return variables | {"HOME": str(tmp_path)}


def commands(modules: set[str]) -> set[str]:
    """The modules of commands among these."""
    return {name.removeprefix("dayfly.cli.") for name in modules if name.startswith("dayfly.cli.")} & COMMANDS.keys()


@pytest.mark.parametrize(
    ("words", "own"),
    [
        (["--version"], set()),
        (["ps"], {"ps"}),
        (["ps", "--help"], {"ps"}),
        (["image", "list"], {"image"}),
        (["run", "--help"], {"run"}),
        (["image", "show", "--help"], {"image"}),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_command_imports_what_it_needs(words: list[str], own: set[str], environment: dict[str, str]) -> None:
    modules = imported(words, environment)
    assert not modules & set(HEAVY.split())
    assert commands(modules) == own
    assert not {name for name in modules if name.startswith(("dayfly.batch", "dayfly.imagebuild", "dayfly.image.inspection"))}


def test_the_version_needs_no_parser(environment: dict[str, str]) -> None:
    assert not imported(["--version"], environment) & {"argparse", "pathlib", "json", "dayfly.settings"}


def test_ps_needs_neither_json_nor_ctypes(environment: dict[str, str]) -> None:
    assert not imported(["ps"], environment) & {"json", "ctypes", "socket", "dayfly.image.library", "dayfly.job"}
    assert "json" in imported(["ps", "--json"], environment)


def test_the_list_of_images_needs_no_machine(environment: dict[str, str]) -> None:
    modules = imported(["image", "list"], environment)
    assert not {
        name for name in modules if name.startswith(("dayfly.machine", "dayfly.job", "dayfly.provision", "dayfly.policy"))
    }
    assert not modules & {"ctypes", "socket"}


def test_help_of_run_needs_no_job(environment: dict[str, str]) -> None:
    modules = imported(["run", "--help"], environment)
    assert not modules & {"dayfly.job.start", "dayfly.image.library", "dayfly.machine.qemu", "json", "socket", "ctypes"}


def test_what_reads_settings_is_imported_for_a_file_only(environment: dict[str, str], tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text('[library]\nuser = "/nowhere"\n')
    assert "tomllib" in imported(["image", "list"], environment | {"DAYFLY_SETTINGS": str(settings)})
    assert "tomllib" not in imported(["image", "list"], environment)
