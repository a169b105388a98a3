"""What it costs to import a container, beside what others do with the same one: `umoci unpack` and `skopeo copy`.

    python -m bench.images IMAGE [ROUNDS]

makes a container of about 500 MB out of the files of an image that is in a library: its files, and two layers more that have them
again in folders of their own. One round after the other, so that other load on the host meets all alike,
- skopeo copies it from one OCI layout into another: every byte is read, hashed and written, and nothing is unpacked;
- umoci unpacks it as root, which is less than an import does: no filesystem is made of it;
- it is imported; and it is told what the steps of that take.

Needs: skopeo, umoci, erofs-utils; root, whom umoci needs to keep owners.
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
from dayfly.image.library import OpenImage
from dayfly.image.search import Libraries

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
    """Make the container: the bytes of its layers, unpacked."""
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
    """One import, into a library that has nothing but an image whose kernel it takes."""
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
    """A library with the one image, and settings that name it."""
    library = place / "library"
    shutil.rmtree(library, ignore_errors=True)
    run("skopeo", "--insecure-policy", "copy", "--quiet", f"oci:{source}:{image.name}", f"oci:{library}:{image.name}")
    scratch = place / "scratch"
    scratch.mkdir(exist_ok=True)
    (place / "settings.toml").write_text(f'[library]\nuser = "{library}"\n[scratch]\nfolder = "{scratch}"\n')


def main() -> None:
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    libraries = Libraries(settings.load())
    with libraries.open(sys.argv[1]) as image, tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        place = Path(name)
        place.chmod(0o755)
        size = container(image, place)
        times: dict[str, list[float]] = {"skopeo copy": [], "umoci unpack": [], "dayfly image import": []}
        steps: dict[str, list[float]] = {name: [] for name in NAMES.values()}
        for number in range(rounds):
            fresh_library(image, libraries.library(image.library).layout.folder, place)
            copy = ("skopeo", "--insecure-policy", "copy", "--quiet", f"oci:{place}/lay:1", f"oci:{place}/copy:1")
            times["skopeo copy"].append(clocked(lambda copy=copy: run(*copy)))  # type: ignore[misc]
            unpack = ("umoci", "unpack", "--image", f"{place}/lay:1", place / "bundle")
            times["umoci unpack"].append(clocked(lambda unpack=unpack: run(*unpack)))  # type: ignore[misc]
            times["dayfly image import"].append(clocked(lambda: imported(place, steps)))
            for folder in ("copy", "bundle"):
                shutil.rmtree(place / folder)
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        packed = sum(path.stat().st_size for path in (place / "lay/blobs/sha256").iterdir())
        show_host()
        print(f"container: {size / 1e6:.0f} MB in {COPIES} layers, {packed / 1e6:.0f} MB packed")
        figures = [Figure(name, tuple(values), "s") for name, values in times.items()]
        show(figures[1], [figures[0], figures[2]])
        for step, values in steps.items():
            print(Figure(f"  {step}", tuple(values), "s"))


if __name__ == "__main__":
    main()
