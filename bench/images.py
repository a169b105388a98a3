"""The time to import a container image and to build an image, compared with other tools that do a part of it.

    python -m bench.images container IMAGE [ROUNDS]
    python -m bench.images build RECIPE [ROUNDS]

`container` makes a container image of about 500 MB from the files of an image in a library: one layer with its files, and two
more layers with the same files in other folders. In each round, so that other load on the host affects all figures equally,
- skopeo copies it from one OCI layout into another: every byte is read, hashed and written, and nothing is unpacked;
- umoci unpacks it as root, which is less work than an import, because no filesystem is made;
- Dayfly imports it, with the time of each step.

`build` builds a recipe, and for comparison lets mmdebstrap make the same two archives, of the packages and of the kernel.

Needs: skopeo, umoci, erofs-utils, and root, so that umoci keeps owners. `build` needs the programs for building images.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.figures import Figure, show, show_host
from dayfly import settings
from dayfly.image.library import Library, OpenImage
from dayfly.image.search import Libraries
from dayfly.image.work import work_folder
from dayfly.imagebuild import build, recipe
from dayfly.imagebuild.context import BuildContext
from dayfly.imagebuild.namespace import enter
from dayfly.values import replace

COPIES = 3
STEP = re.compile(r"\[ *([\d.]+) s\] (.*)")
NAMES = {
    "layers: ": "unpacking and checking the layers",
    "root: making": "making the filesystem",
    "image: ": "adding to the library",
}


def run(*command: object, **options: object) -> str:
    settings = {"check": True, "capture_output": True, "text": True, **options}
    done: subprocess.CompletedProcess[str] = subprocess.run([*map(str, command)], **settings)  # type: ignore[call-overload]
    return done.stdout


def container(image: OpenImage, place: Path) -> int:
    """Make the container image. Returns the size of its uncompressed layers in bytes."""
    run("fsck.erofs", f"--extract={place}/root", "--preserve", image.root.path)
    run("umoci", "init", "--layout", place / "lay")
    run("umoci", "new", "--image", f"{place}/lay:1")
    size = 0
    for number in range(COPIES):
        transform = [f"--transform=s,^\\.,./copy{number},"] if number else []
        run("tar", "-C", place / "root", *transform, "-cf", place / "layer.tar", ".")
        size += (place / "layer.tar").stat().st_size
        run("umoci", "raw", "add-layer", "--image", f"{place}/lay:1", place / "layer.tar")
    shutil.rmtree(place / "root")
    (place / "layer.tar").unlink()
    return size


def clocked(action: Callable[[], object]) -> float:
    os.sync()
    begun = time.monotonic()
    action()
    return time.monotonic() - begun


def imported(place: Path, steps: dict[str, list[float]]) -> None:
    """One import, into a library with only one image, whose kernel is used."""
    command = [sys.executable, "-m", "dayfly", "image", "import", f"oci:{place}/lay:1", "bench:1"]
    environment = {**os.environ, "DAYFLY_SETTINGS": str(place / "settings.toml")}
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, check=True)
    moments = [(float(match[1]), match[2]) for line in done.stderr.splitlines() if (match := STEP.match(line))]
    for index, (moment, text) in enumerate(moments):
        name = next((name for start, name in NAMES.items() if text.startswith(start)), "")
        following = moments[index + 1][0] if index + 1 < len(moments) else moment
        if name and not text.startswith("layers: unpacking 1 "):
            steps[name][-1] += following - moment
        elif name:
            for values in steps.values():
                values.append(0.0)
            steps[name][-1] += following - moment


def fresh_library(image: OpenImage, source: Path, place: Path) -> None:
    """Make a library with only this image, and settings that name the library."""
    library = place / "library"
    shutil.rmtree(library, ignore_errors=True)
    run("skopeo", "--insecure-policy", "copy", "--quiet", f"oci:{source}:{image.name}", f"oci:{library}:{image.name}")
    scratch = place / "scratch"
    scratch.mkdir(exist_ok=True)
    (place / "settings.toml").write_text(f'[library]\nuser = "{library}"\n[scratch]\nfolder = "{scratch}"\n')


def beside_others(name: str, rounds: int) -> None:
    """Import a container image."""
    libraries = Libraries(settings.load())
    with libraries.open(name) as image, tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        place = Path(folder)
        place.chmod(0o755)
        size = container(image, place)
        times: dict[str, list[float]] = {"skopeo copy": [], "umoci unpack": [], "dayfly image import": []}
        steps: dict[str, list[float]] = {step: [] for step in NAMES.values()}
        copy = ("skopeo", "--insecure-policy", "copy", "--quiet", f"oci:{place}/lay:1", f"oci:{place}/copy:1")
        unpack = ("umoci", "unpack", "--image", f"{place}/lay:1", place / "bundle")
        for number in range(rounds):
            fresh_library(image, libraries.library(image.library).layout.folder, place)
            times["skopeo copy"].append(clocked(lambda: run(*copy)))
            times["umoci unpack"].append(clocked(lambda: run(*unpack)))
            times["dayfly image import"].append(clocked(lambda: imported(place, steps)))
            for left in ("copy", "bundle"):
                shutil.rmtree(place / left)
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        packed = sum(path.stat().st_size for path in (place / "lay/blobs/sha256").iterdir())
        show_host()
        print(f"container image: {size / 1e6:.0f} MB in {COPIES} layers, {packed / 1e6:.0f} MB compressed")
        figures = [Figure(name, tuple(values), "s") for name, values in times.items()]
        show(figures[1], [figures[0], figures[2]])
        for step, values in steps.items():
            print(Figure(f"  {step}", tuple(values), "s"))


def beside_mmdebstrap(name: str, rounds: int) -> None:
    """Build a recipe."""
    wanted = recipe.find(name)
    times: dict[str, list[float]] = {"mmdebstrap": [], "dayfly image build": []}
    for number in range(rounds):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            place = Path(folder)
            place.chmod(0o755)
            library = Library(place / "library")
            library.create()
            site = replace(settings.load(), scratch_folder=place)
            with work_folder(library.layout) as work:
                shop = BuildContext(site, work, enter(work, place), lambda _: None, wanted.date)
                packages = (wanted.distribution, wanted.release, wanted.components, wanted.variant, wanted.packages)
                spent = clocked(lambda shop=shop, packages=packages: shop.bootstrap("packages", *packages))  # type: ignore[misc]
                kernel = ("debian", wanted.kernel, ("main",), "extract", ("linux-image-amd64",))
                spent += clocked(lambda shop=shop, kernel=kernel: shop.bootstrap("kernel", *kernel))  # type: ignore[misc]
            times["mmdebstrap"].append(spent)
            whole = (wanted, library, site, lambda _: None)
            times["dayfly image build"].append(clocked(lambda whole=whole: build(*whole)))  # type: ignore[misc]
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    show_host()
    figures = [Figure(name, tuple(values), "s") for name, values in times.items()]
    show(figures[0], figures[1:])


def main() -> None:
    what = {"container": beside_others, "build": beside_mmdebstrap}[sys.argv[1]]
    what(sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 5)


if __name__ == "__main__":
    main()
