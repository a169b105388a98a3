"""What the tests of imports share: a site whose library has an image to take the kernel of, and a real registry."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.unit.image.examples import CONFIG, LAYERS

from dayfly.image.library import Library
from dayfly.image.reference import Name

ROOT = Path(__file__).parents[2]


@dataclass
class Imports:
    """Where a test imports containers, by the command."""

    folder: Path
    library: Library
    scratch: Path
    before: list[str] = field(default_factory=list)

    @property
    def settings(self) -> Path:
        return self.folder / "settings.toml"

    def configure(self, mirror: str = "http://127.0.0.1:9/debian") -> None:
        """Write the settings; without a `mirror`, packages come from where apt gets them."""
        lines = f'[library]\nuser = "{self.library.layout.folder}"\n[scratch]\nfolder = "{self.scratch}"\n'
        self.settings.write_text(lines + (f'[build]\nmirror = "{mirror}"\n' if mirror else ""))

    def command(self, *words: object) -> list[str]:
        return [*self.before, sys.executable, "-m", "dayfly", "image", *map(str, words)]

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        return {**kept, **self.settled()}

    def settled(self) -> dict[str, str]:
        """The variables that make a command one of this site's."""
        return {"DAYFLY_SETTINGS": str(self.settings), "HOME": str(self.folder), "PYTHONPATH": f"{ROOT}/src:{ROOT}"}

    def run(self, *words: object, **options: object) -> subprocess.CompletedProcess[str]:
        """`dayfly image …` to its end."""
        settings = {"env": self.environment(), "capture_output": True, "text": True, "check": False, "timeout": 120, **options}
        return subprocess.run(self.command(*words), **settings)  # type: ignore[call-overload, no-any-return]

    def imported(self, *words: object) -> str:
        """Import a container: the image's digest."""
        done = self.run("import", *words)
        assert done.returncode == 0, done.stderr
        self.nothing_left()
        return done.stdout.strip()

    def refused(self, *words: object) -> str:
        """Import a container that cannot be imported: the one line that says why."""
        names = [image.name for image in self.library.images()]
        done = self.run("import", *words)
        lines = [line for line in done.stderr.splitlines() if not line.startswith("[")]
        assert done.returncode == 125, (done.stdout, done.stderr)
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("dayfly: ")
        assert [image.name for image in self.library.images()] == names
        self.nothing_left()
        return lines[0]

    def nothing_left(self) -> None:
        assert [path.name for path in self.library.layout.work.iterdir() if path.name != ".lock"] == []
        assert list(self.scratch.iterdir()) == []


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that root's other ids can reach, which pytest's own are not."""
    folder = Path(f"/var/tmp/dayfly-test-{os.getpid()}")
    folder.mkdir(mode=0o755)
    yield folder
    left = sorted(folder.iterdir())
    for path in left:
        subprocess.run(["rm", "-rf", str(path)], check=True)
    folder.rmdir()
    assert left == []


@pytest.fixture
def imports(tmp_path: Path, scratch: Path) -> Imports:
    """A library with an image that has a kernel, or what looks like one."""
    site = Imports(tmp_path, Library(tmp_path / "library"), scratch)
    site.library.add(CONFIG, LAYERS, Name("base", "1"))
    site.configure()
    return site


def run(*command: object, **options: object) -> str:
    """A program's output."""
    settings = {"check": True, "capture_output": True, "text": True, **options}
    done: subprocess.CompletedProcess[str] = subprocess.run([*map(str, command)], **settings)  # type: ignore[call-overload]
    return done.stdout


@dataclass(frozen=True)
class Registry:
    """A registry that runs."""

    address: str
    log: Path


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Callable[..., Registry]]:
    """Starts docker-registry; with lines of its settings below `http`, and others."""
    running: list[subprocess.Popen[bytes]] = []

    def start(http: Sequence[str] = (), others: Sequence[str] = ()) -> Registry:
        program = shutil.which("docker-registry")
        assert program, "install the package docker-registry"
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        folder = tmp_path / f"registry{port}"
        folder.mkdir()
        lines = ["version: 0.1", "storage:", "  filesystem:", f"    rootdirectory: {folder}/data", *others, "http:"]
        (folder / "config.yml").write_text("\n".join([*lines, f"  addr: 127.0.0.1:{port}", *(f"  {line}" for line in http), ""]))
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
        running.append(process)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return Registry(f"127.0.0.1:{port}", folder / "log")
            except ConnectionRefusedError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.05)
        raise AssertionError("the registry did not start")

    yield start
    for process in running:
        process.terminate()
        process.wait()


@pytest.fixture
def secure(registry: Callable[..., Registry], tmp_path: Path) -> tuple[str, Path]:
    """A registry with TLS and passwords: its address, and the certificate of the authority that vouches for it."""
    folder = tmp_path / "tls"
    folder.mkdir()
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    name = ("-subj", "/CN=Authority of a test")
    run("openssl", "req", "-x509", *key, *name, "-days", "1", "-keyout", folder / "ca.key", "-out", folder / "ca.pem")
    run("openssl", "req", *key, "-subj", "/CN=registry", "-keyout", folder / "key.pem", "-out", folder / "request.pem")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signer = (
        "-CA",
        folder / "ca.pem",
        "-CAkey",
        folder / "ca.key",
        "-CAcreateserial",
        "-days",
        "1",
        "-extfile",
        folder / "names",
    )
    run("openssl", "x509", "-req", "-in", folder / "request.pem", *signer, "-out", folder / "cert.pem")
    run("htpasswd", "-Bbc", folder / "passwords", "ada", "secret")
    tls = ("tls:", f"  certificate: {folder}/cert.pem", f"  key: {folder}/key.pem")
    auth = ("auth:", "  htpasswd:", "    realm: test", f"    path: {folder}/passwords")
    return registry(tls, auth).address, folder / "ca.pem"


def credentials(path: Path, address: str, word: str = "ada:secret") -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"auths": {address: {"auth": base64.b64encode(word.encode()).decode()}}}))
    return path


def command_lines() -> list[bytes]:
    """Those of all processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:
            continue
    return found


def as_another_user(given: Path, source: str, base: Library) -> str:
    """The digest of an image that an ordinary user with a closed home imported. `source` has {} for the path that was given."""
    user = f"dayfly-{os.getpid()}"
    home = Path("/var/tmp") / user
    run("useradd", "--create-home", "--home-dir", home, user)
    try:
        run("cp", "-r", given, home)
        shutil.copytree(base.layout.folder, home / "library", ignore=shutil.ignore_patterns(".dayfly"))
        (home / "settings.toml").write_text(f'[library]\nuser = "{home}/library"\n')
        run("chown", "-R", f"{user}:", home)
        home.chmod(0o700)
        variables = [f"HOME={home}", "PATH=/usr/bin:/bin", f"DAYFLY_SETTINGS={home}/settings.toml", "PYTHONDONTWRITEBYTECODE=1"]
        variables.append(f"PYTHONPATH={':'.join([f'{ROOT}/src', str(ROOT), *filter(None, sys.path)])}")
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "env", "-i", *variables]
        command = [*become, sys.executable, "-m", "dayfly", "image", "import", source.format(home / given.name), "made:1"]
        done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert [path.name for path in (home / "library/.dayfly/work").iterdir()] == [".lock"]
        assert {path.owner() for path in (home / "library/blobs/sha256").iterdir()} == {user}
        return done.stdout.strip()
    finally:
        run("userdel", "--remove", user, stderr=subprocess.DEVNULL, capture_output=False)
