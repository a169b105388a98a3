"""Dayfly as a site installs it for a batch system's hosts: the program, the settings, a library, the folders; and its user."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dayfly.image.library import Library
from tests.framework.batch import Ran

START_SECONDS = 90.0
"""What a daemon has to start. It takes a second where nothing else runs."""
SETTINGS = """\
[library]
system = "{folder}/library"
[scratch]
folder = "{folder}/scratch"
size = "1G"
[machine]
accelerator = "{accelerator}"
qemu = "{qemu}"
[records]
folder = "{folder}/records/{{user}}"
[cache]
folder = "{folder}/cache/{{user}}"
[templates]
system = "{folder}/site-templates"
user = "{folder}/templates/{{user}}"
[job]
grace = "3s"
[batch]
images = ["debian:*"]
[batch.queues.always]
vm = "always"
image = "debian:12"
memory = "1536M"
[batch.queues.never]
vm = "never"
"""
"""Of a site that allows `debian:*`, with a queue whose jobs all have machines (of 1536 MiB at most), and one whose have none."""
_LAUNCHER = """\
#!{python} -P
import sys
sys.path[:0] = {path!r}
from dayfly.cli import main
sys.exit(main())
"""


@dataclass
class Installation:
    """Everything of a site in one folder. Jobs are those of `user`; machines are made of the images of `library`."""

    folder: Path
    library: Path
    user: str = "nobody"
    nodes: tuple[str, ...] = ("n1", "n2")
    accelerator: str = "tcg"

    @property
    def work(self) -> Path:
        """The user's folder, and the working directory of the jobs."""
        return self.folder / "work"

    @property
    def settings(self) -> Path:
        """The site's settings of Dayfly."""
        return self.folder / "settings.toml"

    @property
    def users_settings(self) -> Path:
        """The settings of the user, who finds the records with them."""
        return self.folder / "user.toml"

    @property
    def program(self) -> Path:
        """The command `dayfly`."""
        return self.folder / "dayfly"

    @property
    def environment(self) -> dict[str, str]:
        """What the user's commands run with."""
        keep = {key: os.environ[key] for key in ("PATH", "TERM", "LANG") if key in os.environ}
        return {**keep, "HOME": str(self.work), "USER": self.user, "LOGNAME": self.user}

    def install(self) -> None:
        """Make all of it, where the user can read it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        # In these folders the batch system's prolog makes the user's own.
        for name in ("log", "site-templates", "scratch", "records", "cache", "templates"):
            (self.folder / name).mkdir(exist_ok=True)
        (self.folder / "scratch").chmod(0o1777)
        owner = pwd.getpwnam(self.user)
        self.work.mkdir(exist_ok=True)
        os.chown(self.work, owner.pw_uid, owner.pw_gid)
        qemu = os.environ.get("DAYFLY_TEST_QEMU", "qemu-system-x86_64")
        self.settings.write_text(SETTINGS.format(folder=self.folder, accelerator=self.accelerator, qemu=qemu))
        self.users_settings.write_text(f'[records]\nfolder = "{self.folder}/records/{self.user}"\n')
        _copy_library(self.library, self.folder / "library")
        self._install_program()

    def _install_program(self) -> None:
        import qemu.qmp  # noqa: PLC0415

        import dayfly  # noqa: PLC0415 (only for where it is)

        code = self.folder / "code"
        for package in (Path(dayfly.__file__).parent, Path(qemu.qmp.__file__).parent.parent):
            shutil.copytree(package, code / package.name, dirs_exist_ok=True)
        subprocess.run([sys.executable, "-m", "compileall", "-q", code], check=True)
        self.program.write_text(_LAUNCHER.format(python=os.path.realpath(sys.executable), path=[str(code)]))
        self.program.chmod(0o755)

    def as_user(self) -> list[str]:
        """What makes a command the user's, where jobs are submitted."""
        return self.become()

    def become(self) -> list[str]:
        """What makes a command the user's."""
        owner = pwd.getpwnam(self.user)
        return ["setpriv", "--reuid", str(owner.pw_uid), "--regid", str(owner.pw_gid), "--clear-groups"]


def run(
    command: Sequence[str | bytes], environment: Mapping[str, str], cwd: Path, stdin: bytes = b"", seconds: float = 120
) -> Ran:
    """Run a command to its end."""
    done = subprocess.run(command, env=environment, cwd=cwd, input=stdin, capture_output=True, check=False, timeout=seconds)
    return Ran(done.returncode, done.stdout, done.stderr.decode(errors="replace"))


def processes(variable: str) -> Iterator[tuple[int, str]]:
    """Every process with this variable, `NAME=value`, in its environment, and its command."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if variable.encode() in entry.joinpath("environ").read_bytes().split(b"\0"):
                    yield int(entry.name), entry.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def _copy_library(source: Path, target: Path) -> None:
    if target.exists():
        return
    target.mkdir()
    for name in ("oci-layout", "index.json"):
        shutil.copy(source / name, target / name)
    try:
        shutil.copytree(source / "blobs", target / "blobs", copy_function=os.link)
    except (OSError, shutil.Error):  # another filesystem
        shutil.rmtree(target / "blobs", ignore_errors=True)
        shutil.copytree(source / "blobs", target / "blobs")
    Library(target).verify()  # as whoever fills it has done: users cannot note what they found


def eventually(what: Any, said: str, seconds: float = 10, shown: Any = None) -> None:
    """Wait until `what()` is true; fail when it does not become so.

    To ask a batch system costs a command, and its daemon's time: at most a fifth of the time goes into asking.
    """
    begun = time.monotonic()
    end = begun + seconds
    while not what():
        now = time.monotonic()
        assert now < end, f"not within {seconds} s: {said}; {shown() if shown else ''}"
        time.sleep(min(max(0.03, 4 * (now - begun)), 0.3))
        begun = time.monotonic()
