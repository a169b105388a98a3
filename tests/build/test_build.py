"""Real builds with mmdebstrap, from the archive that apt is configured with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.framework import images
from tests.framework.images import TEST_LIBRARY
from tests.framework.site import eventually

from dayfly.errors import DayflyError, NoSpace, NotFound, ProgramFailed, Refused
from dayfly.guest.boot import BootMode
from dayfly.image.library import Library
from dayfly.image.manifest import Role
from dayfly.image.reference import Name, parse
from dayfly.imagebuild import build, find
from dayfly.imagebuild.archives import DISTRIBUTIONS, choose, configured
from dayfly.imagebuild.recipe import Recipe, RecipeFile, RecipeUser
from dayfly.settings import Settings

SMALL = Recipe(
    Name("small", "1"), "debian", "bookworm", 1767225600, packages=("busybox-static",), variant="essential", kernel="bookworm"
)
ROOT = Path(__file__).parents[2]
ELSEWHERE = """
import sys
from pathlib import Path
from dayfly.imagebuild import build, find
from dayfly.image.library import Library
from dayfly.settings import Settings
from tests.build.test_build import SMALL
recipe = find(sys.argv[1]) if sys.argv[1] else SMALL
print(build(recipe, Library(Path(sys.argv[2])), Settings(scratch_folder=Path(sys.argv[3])), lambda line: print(line, flush=True)))
"""


def elsewhere(recipe: str, library: Path, scratch: Path) -> list[str]:
    """The command that builds in another process."""
    return [sys.executable, "-c", ELSEWHERE, recipe, str(library), str(scratch)]


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "library")


def settings(scratch: Path) -> Settings:
    return Settings(scratch_folder=scratch)


def nothing_left(library: Library) -> None:
    assert [path.name for path in library.layout.work.iterdir() if path.name != ".lock"] == []


def silent(_: str) -> None:
    return


def files_of(image: Path, folder: Path) -> Path:
    """The files of an erofs filesystem."""
    subprocess.run(["fsck.erofs", f"--extract={folder}", "--no-preserve", str(image)], check=True, stdout=subprocess.DEVNULL)
    return folder


def as_another_user() -> str:
    """The digest of an image that an ordinary user with a closed home built."""
    user = f"dayfly-{os.getpid()}"
    home = Path("/var/tmp") / user
    subprocess.run(["useradd", "--create-home", "--home-dir", str(home), user], check=True)
    try:
        home.chmod(0o700)
        environment = [
            f"HOME={home}",
            "PATH=/usr/bin:/bin",
            f"PYTHONPATH={':'.join([f'{ROOT}/src', str(ROOT), *filter(None, sys.path)])}",
        ]
        become = [
            "setpriv",
            f"--reuid={user}",
            f"--regid={user}",
            "--init-groups",
            "env",
            "-i",
            *environment,
            "PYTHONDONTWRITEBYTECODE=1",
        ]
        command = [*become, *elsewhere("debian:12", home / "library", Path("/var/tmp"))]
        done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        library = Library(home / "library")
        assert library.verify().bad == ()
        nothing_left(library)
        assert {path.owner() for path in library.layout.blobs.iterdir()} == {user}
        return done.stdout.splitlines()[-1]
    finally:
        subprocess.run(["userdel", "--remove", user], check=True, capture_output=True)


@pytest.mark.timeout(900)
def test_the_same_recipe_gives_the_same_image_bit_for_bit(library: Library, scratch: Path, tmp_path: Path) -> None:
    """The tests' own image is built again, by another user where we can become one."""

    def again() -> str:
        if os.geteuid() == 0:
            return as_another_user()
        return build(find("debian:12"), Library(tmp_path / "second"), settings(scratch), silent)

    tests_own = Library(TEST_LIBRARY)
    images.build(images.PLAIN)
    first, second = tests_own.inspect(parse("debian:12"))[0], again()
    if first == second:
        library = tests_own
    else:  # the archive may have had newer packages since
        assert build(find("debian:12"), library, settings(scratch), silent) == second
    with library.open(parse("debian:12")) as image:
        assert image.config.os.pretty_name == "Debian GNU/Linux 12 (bookworm)"
        assert image.config.boot is BootMode.AGENT
        assert image.config.recipe == find("debian:12").digest
        assert image.modules
        assert image.kernel
        assert image.boot_modules
        assert os.pread(image.kernel.file, 4, 0) == b"\x7fELF"
        boot_modules = os.pread(image.boot_modules.file, 1 << 26, 0)
        assert b"modules/virtio_blk.ko\0" in boot_modules
        root = files_of(image.root.path, tmp_path / "root")
        modules = files_of(image.modules.path, tmp_path / "modules")
    assert (root / "etc/machine-id").read_bytes() == b""
    assert (root / "etc/apt/sources.list").read_text().startswith("deb http")
    assert not list((root / "var/lib/apt/lists").glob("*Packages*"))
    assert (root / "usr/bin/python3").exists()
    assert (modules / f"usr/lib/modules/{image.config.kernel.version}/modules.dep").exists()


def test_a_root_with_a_kernel_files_and_users_of_its_own(library: Library, scratch: Path, tmp_path: Path) -> None:
    recipe = replace(
        SMALL,
        packages=("linux-image-amd64",),
        kernel="",
        boot=BootMode.SYSTEM,
        files=(RecipeFile("/opt/site/motd", b"hello\n", 0o640, "worker", "worker"),),
        users=(RecipeUser("worker", 1000, 1000, "/home/worker", "/bin/bash", ("cdrom",)),),
        environment={"SITE": "here"},
    )
    lines: list[str] = []
    build(recipe, library, settings(scratch), lines.append, name=Name("other", "name"))
    assert any(line.startswith("packages: ") for line in lines)
    nothing_left(library)
    assert library.verify().bad == ()
    _, manifest, config = library.inspect(parse("other:name"))
    assert manifest.find(Role.MODULES) is None
    assert manifest.find(Role.BOOT_MODULES)
    assert config.kernel.version.endswith("-amd64")
    assert config.environment == {"SITE": "here"}
    with library.open(parse("other:name")) as image:
        root = files_of(image.root.path, tmp_path / "root")
    assert (root / "opt/site/motd").read_bytes() == b"hello\n"
    assert "worker:x:1000:1000::/home/worker:/bin/bash" in (root / "etc/passwd").read_text().splitlines()
    assert not list((root / "boot").glob("initrd*"))
    assert not (root / "var/lib/initramfs-tools").exists(), "none was made"


def test_a_package_that_does_not_exist_is_said_in_the_programs_words(library: Library, scratch: Path) -> None:
    recipe = replace(SMALL, packages=("no-such-package-anywhere",))
    with pytest.raises(ProgramFailed, match="no-such-package-anywhere") as caught:
        build(recipe, library, settings(scratch), silent)
    assert "Unable to locate package no-such-package-anywhere" in caught.value.tail
    assert caught.value.hint
    nothing_left(library)
    assert library.images() == []


def test_a_release_that_does_not_exist_is_not_found(library: Library, scratch: Path) -> None:
    with pytest.raises(NotFound, match="no release woodworm"):
        build(replace(SMALL, release="woodworm"), library, settings(scratch), silent)
    nothing_left(library)


def test_a_mirror_that_does_not_answer_is_said_with_a_hint(library: Library, scratch: Path) -> None:
    with pytest.raises(DayflyError, match=r"http://127\.0\.0\.1:9/debian cannot be reached") as caught:
        build(SMALL, library, replace(settings(scratch), build_mirror="http://127.0.0.1:9/debian"), silent)
    assert "build.mirror" in caught.value.hint
    nothing_left(library)


def test_a_date_in_the_future_is_refused(library: Library, scratch: Path) -> None:
    with pytest.raises(Refused, match="is in the future"):
        build(replace(SMALL, date=int(time.time()) + 86400), library, settings(scratch), silent)


def test_ubuntu_is_built_where_its_archive_is_reached_and_refused_with_a_hint_elsewhere(library: Library, scratch: Path) -> None:
    try:
        choose(configured(), DISTRIBUTIONS["ubuntu"], "")
    except NotFound:
        with pytest.raises(NotFound, match="no archive of Ubuntu") as caught:
            build(find("ubuntu:24.04"), library, settings(scratch), silent)
        assert "build.mirror" in caught.value.hint
        pytest.skip("apt on this host has no archive of Ubuntu")
    build(find("ubuntu:24.04"), library, settings(scratch), silent)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small filesystem to fill")
def test_a_full_disk_is_said_and_nothing_is_left(library: Library, tmp_path: Path) -> None:
    small = Path(f"/var/tmp/small-of-tests-{os.getpid()}")
    small.mkdir(mode=0o755)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40M,mode=755", "tmpfs", str(small)], check=True)
    try:
        with pytest.raises(NoSpace, match=str(small)):
            build(SMALL, library, settings(small), silent)
        assert list(small.iterdir()) == []
        nothing_left(library)
    finally:
        subprocess.run(["umount", str(small)], check=True)
        small.rmdir()


def living(folder: Path) -> list[str]:
    """The processes that have this folder on their command line, zombies not counted."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if str(folder).encode() in line and path.parent.name != str(os.getpid()):
            found.append(line.decode(errors="replace"))
    return found


@pytest.mark.parametrize("moment", ["extracting archives", "installing essential packages"])
def test_a_killed_build_leaves_no_process_and_the_next_one_sweeps_its_files(library: Library, scratch: Path, moment: str) -> None:
    command = elsewhere("", library.layout.folder, scratch)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/src:{ROOT}"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        assert any(moment in line for line in process.stdout)
        process.send_signal(signal.SIGKILL)
    # What waits for a slow disk dies when that has answered.
    eventually(lambda: not living(scratch) and not living(library.layout.folder), 60)
    eventually(lambda: swept(library, scratch))  # a process that dies has its locks for longer than its command line
    nothing_left(library)
    assert library.images() == []


def swept(library: Library, scratch: Path) -> bool:
    library.collect()
    return not list(scratch.iterdir())
