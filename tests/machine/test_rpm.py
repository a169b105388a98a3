"""RPM distributions: dnf in a machine, from a repository made on the spot."""

from __future__ import annotations

from pathlib import Path

import pytest

from dayfly.errors import DayflyError
from dayfly.image.library import Library, Source
from dayfly.image.manifest import ImageConfig, Kernel, Role
from dayfly.image.reference import parse
from dayfly.image.work import work_folder
from dayfly.imagebuild import capture, filesystem, rpm
from dayfly.imagebuild.containerimage.rootfs import Root
from dayfly.imagebuild.context import BuildContext
from dayfly.imagebuild.namespace import enter
from dayfly.imagebuild.recipe import load
from tests.framework.images import RPM_BUILDER, build
from tests.framework.rpms import repository
from tests.framework.site import Site
from tests.machine.test_steps import loaded

RECIPE = """
name = "tiny:1"
distribution = "rpm"
release = "1"
date = 2026-01-01
packages = ["Tiny_Tool"]
[kernel]
release = "bookworm"
[[repository]]
name = "tiny"
url = "file://{url}"
gpgkey = "key.asc"
[[files]]
path = "/etc/motd"
content = "of the recipe"
owner = "4711:root"
mode = "0600"
"""


@pytest.fixture(scope="session")
def builder(library: Path) -> str:
    """The image that has dnf, in the tests' library."""
    return build(RPM_BUILDER)


def made(site: Site, builder: str, recipe: Path, name: str) -> Root:
    """The root of a recipe, and an image of it with the kernel of debian:12."""
    settings, told = loaded(site), list[str]()
    library = Library(site.work / "library")
    with library.open(parse(builder)) as opened, work_folder(library.layout) as work, library.open(parse("debian:12")) as debian:
        namespace = enter(work, settings.scratch_folder)
        wanted = load(recipe)
        context = BuildContext(settings, work, namespace, told.append, wanted.date)
        root = rpm.root(context, wanted, opened)
        layers = {Role.ROOT: Source(filesystem.FORM, root.path), **capture.kernel_of(debian)}
        library.add(ImageConfig(root.os, Kernel(debian.config.kernel.version)), layers, parse(name).name)
    assert "packages: Complete!" in told
    return root


def test_signed_packages_become_an_image(builder: str, importing: Site) -> None:
    folder = importing.work / "rpm"
    recipe = folder / "tiny.toml"
    packages = repository(folder, key=folder / "key.asc")
    recipe.write_text(RECIPE.format(url=packages))
    root = made(importing, builder, recipe, "tiny:1")
    assert (root.os.id, root.os.version, root.os.pretty_name) == ("tiny", "1", "Tiny 1")
    script = (
        "tool; cat /etc/configured; stat -c '%a %u %g %n' /usr/bin/tool /srv/private /etc/motd; cat /etc/motd; ls /var/lib/rpm; "
        "find / -xdev -name '*dnf*'"
    )
    done = importing.dayfly("run", "tiny:1", "--cold", "-u", "root", "--workdir", "/", "--", "sh", "-c", script)
    assert done.status == 0, done.err
    assert done.out.decode().splitlines()[:7] == [
        *("the tool runs", "0 ID=tiny", "VERSION_ID=1", 'PRETTY_NAME="Tiny 1"'),
        *("4755 0 0 /usr/bin/tool", "640 0 0 /srv/private", "600 4711 0 /etc/motd"),
    ]
    assert b"of the recipe" in done.out
    assert b"rpmdb.sqlite" in done.out
    assert b"dnf" not in done.out
    inspected = importing.dayfly("image", "inspect", "tiny:1", "--json")
    assert inspected.status == 0, inspected.err
    assert b"/usr/bin/raw" in inspected.out, "capabilities"


def test_packages_that_nobody_signed_are_refused(builder: str, importing: Site) -> None:
    folder = importing.work / "rpm"
    packages = repository(folder / "unsigned")
    repository(folder / "signed", key=folder / "key.asc")
    (folder / "tiny.toml").write_text(RECIPE.format(url=packages))
    with pytest.raises(DayflyError, match="installation of packages: step 1 of 1 exited with 1") as failed:
        made(importing, builder, folder / "tiny.toml", "tiny:1")
    assert "GPG check FAILED" in str(failed.value)
