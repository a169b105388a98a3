"""Shells complete Dayfly's command line: bash, zsh and fish themselves, on a library with an image in it."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.unit.image.examples import CONFIG, LAYERS

import dayfly
from dayfly.image.library import Library
from dayfly.image.reference import Name

SECONDS = 60.0


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A user whose library holds zebra:12, with `dayfly` on PATH."""
    Library(tmp_path / "library").add(CONFIG, LAYERS, Name("zebra", "12"))
    records = tmp_path / "records/2026-01-01"
    records.mkdir(parents=True)
    (records / "abcdef0123.json").write_text("{}")
    settings = tmp_path / "settings.toml"
    settings.write_text(f'[library]\nuser = "{tmp_path}/library"\n[records]\nfolder = "{tmp_path}/records"\n')
    command = tmp_path / "bin/dayfly"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m dayfly "$@"\n')
    command.chmod(0o755)
    return {
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(dayfly.__file__).parent.parent),
        "DAYFLY_SETTINGS": str(settings),
        "HOME": str(tmp_path),
        "TERM": "vt100",
        "LANG": "C.UTF-8",
    }


def shell(name: str) -> str:
    path = shutil.which(name)
    assert path, f"install the package {name}"
    return path


def bash(line: str, environment: dict[str, str]) -> list[str]:
    """What bash is offered for a line, by the function that the script registers."""
    words = " ".join(f"'{word}'" for word in line.split(" "))
    script = f"""
        eval "$(dayfly completion bash)"
        COMP_LINE='{line}' COMP_POINT={len(line)} COMP_TYPE=9 COMP_WORDS=({words}) COMP_CWORD={line.count(" ")}
        complete -p dayfly | grep -q -- '-F _python_argcomplete ' || exit 9
        _python_argcomplete dayfly
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return run([shell("bash"), "--norc", "-c", script], environment)


def fish(line: str, environment: dict[str, str]) -> list[str]:
    """What fish is offered for a line, without the descriptions."""
    offered = run([shell("fish"), "--no-config", "-c", f"dayfly completion fish | source; complete -C '{line}'"], environment)
    return [word.partition("\t")[0] for word in offered]


def run(argv: list[str], environment: dict[str, str]) -> list[str]:
    finished = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert (finished.returncode, finished.stderr) == (0, "")
    return [word.rstrip() for word in finished.stdout.splitlines() if word]


SHELLS = {"bash": bash, "fish": fish}


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("dayfly ima", ["image"]),
        ("dayfly image rem", ["remove"]),
        ("dayfly run --net", ["--network"]),
        ("dayfly run zebra:12 --network n", ["nat", "none"]),
        ("dayfly run zeb", ["zebra:12"]),
        ("dayfly image show user/", ["user/zebra:12"]),
        ("dayfly usage show abc", ["abcdef0123"]),
        ("dayfly usage list --state lo", ["lost"]),
        ("dayfly image build debian:12-", ["debian:12-system"]),
        ("dayfly run zebra:12 --memory ", []),
        ("dayfly run zebra:12 -- nothing-of-that-name", []),
    ],
)
def test_what_is_offered(name: str, line: str, offered: list[str], environment: dict[str, str]) -> None:
    before, colon, _ = line.rpartition(" ")[2].rpartition(":")  # bash breaks words at colons and is given what follows
    expected = [word.removeprefix(before + colon) for word in offered] if name == "bash" else offered
    assert sorted(SHELLS[name](line, environment)) == expected


@pytest.mark.parametrize("name", SHELLS)
def test_files_for_the_jobs_command(
    name: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "simulate.sh").touch()
    monkeypatch.chdir(tmp_path)
    assert SHELLS[name]("dayfly run zebra:12 -- sh simul", environment) == ["simulate.sh"]


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize("line", ["dayfly run zeb", "dayfly usage show a"])
def test_broken_settings_say_nothing(name: str, line: str, environment: dict[str, str]) -> None:
    Path(environment["DAYFLY_SETTINGS"]).write_text("nonsense")
    assert SHELLS[name](line, environment) == []


def test_zsh(environment: dict[str, str]) -> None:
    """zsh completes only while a line is edited, so it sits at a terminal: a tab, and the line that it makes is run."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(shell("zsh"), ["zsh", "-f", "-i"], environment)
    try:
        say(terminal, "PS1= ; autoload -U compinit; compinit -u -D; eval \"$(dayfly completion zsh)\"; echo rea''dy\n")
        wait_for(terminal, "ready")
        say(terminal, "dayfly ima\t--help\n")
        wait_for(terminal, "usage: dayfly image")
        say(terminal, "dayfly image show zeb\t\n")
        wait_for(terminal, "digest:")
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


def say(terminal: int, text: str) -> None:
    os.write(terminal, text.encode())


def wait_for(terminal: int, text: str) -> None:
    seen, end = "", time.monotonic() + SECONDS
    while text not in seen:
        ready, _, _ = select.select([terminal], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"{text!r} did not come: {seen}"
        seen += os.read(terminal, 65536).decode(errors="replace")


def test_the_completion_of_an_unknown_shell(environment: dict[str, str]) -> None:
    finished = subprocess.run(["dayfly", "completion", "csh"], env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 125
    assert finished.stderr.startswith("dayfly: ")
