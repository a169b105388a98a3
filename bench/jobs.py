"""Many jobs, one after the other and several at a time: jobs per second, and whether any use of resources grows.

python -m bench.jobs [--image debian:12] [--jobs 500] [--at-once 8]
"""

from __future__ import annotations

import argparse
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from bench.figures import show_host
from bench.start import DAYFLY
from dayfly.machine.processes import running
from dayfly.settings import load


@dataclass(frozen=True)
class Host:
    """Resources that could grow: processes, machines, open files of the host, files of Dayfly except records, memory in MB."""

    processes: int
    machines: int
    open_files: int
    files: int
    memory: float

    def __str__(self) -> str:
        return (
            f"{self.processes} processes, {self.machines} machines, {self.open_files} open files, "
            f"{self.files} files of Dayfly, {self.memory:.0f} MB in use"
        )


def host() -> Host:
    """The current use of resources. Memory is what is neither free nor reclaimable."""
    settings = load()
    folders = (settings.cache_folder, settings.templates_user, Path("/dev/shm"))
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    used = sum(int(lines[name].split()[0]) for name in ("AnonPages", "Shmem", "KernelStack", "PageTables", "SUnreclaim"))
    return Host(
        processes=sum(path.name.isdecimal() for path in Path("/proc").iterdir()),
        machines=len(list(running())),
        open_files=int(Path("/proc/sys/fs/file-nr").read_text().split()[0]),
        files=sum(path.is_file() for folder in folders for path in folder.rglob("*")),
        memory=used / 1000,
    )


def one(image: str, failures: list[str]) -> None:
    """One job."""
    command = [DAYFLY, "run", image, "--", "echo", "done"]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if (ended.returncode, ended.stdout, ended.stderr) != (0, b"done\n", b""):
        failures.append(f"{ended.returncode} {ended.stderr.decode(errors='replace')}")


def several(image: str, count: int, at_once: int) -> list[str]:
    """Run `count` jobs in `at_once` threads. Returns the failures."""
    failures: list[str] = []
    left = iter(range(count))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if next(left, None) is None:
                    return
            one(image, failures)

    threads = [threading.Thread(target=work) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default="debian:12")
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--at-once", type=int, default=8)
    arguments = parser.parse_args()
    show_host()
    several(arguments.image, 8, arguments.at_once)  # makes the template, warms the page cache
    print(f"before: {host()}")
    for at_once in (1, arguments.at_once):
        begun = time.monotonic()
        failures = several(arguments.image, arguments.jobs, at_once)
        seconds = time.monotonic() - begun
        print(f"{arguments.jobs} jobs, {at_once} at a time: {arguments.jobs / seconds:.2f} a second, {len(failures)} failed")
        for failure in failures[:5]:
            print(f"  {failure}")
        print(f"after:  {host()}")


if __name__ == "__main__":
    main()
