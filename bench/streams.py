"""The throughput of a job's standard streams, compared with that of the bare virtio port that carries them.

    python -m bench.streams [--image debian:12] [--runs 5]

The floors are the same machine with an /init that writes to the port, or reads from it, in 64 KiB pieces and without frames.
All are measured in turn, so that other load affects them equally. MB are 10^6 bytes.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.bare import Bare
from bench.figures import Figure, show, show_host

DAYFLY = (sys.executable, "-m", "dayfly")
SIZE = 256 << 20
PIECE = 1 << 20
# The /init of both floors. It loads the modules and opens the port, and writes one byte when the machine is ready.
RAW = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
enum { PIECE = 65536 };
static char list[16384], piece[PIECE];
int main(void) {
  int port = -1;
  mkdir("/dev", 0755);
  mount("dev", "/dev", "devtmpfs", 0, "");
  chdir("/modules");
  read(open("load", O_RDONLY), list, sizeof list - 1);
  for (char *line = strtok(list, "\n"); line; line = strtok(0, "\n"))
    syscall(SYS_finit_module, open(line, O_RDONLY), "", 0);
  for (int bus = 0; port < 0; bus = (bus + 1) % 10) {
    char name[] = "/dev/vport0p1";
    name[10] += bus;
    port = open(name, O_RDWR);
  }
  memset(piece, 1, PIECE);
  write(port, piece, 1);
  for (long left = SIZE; left > 0;) {
    long n = MOVE(port, piece, PIECE);
    if (n <= 0) break;
    left -= n;
  }
  write(port, piece, 1);
  for (;;) pause();
}
"""


class Raw:
    """The floor: a machine whose /init only transfers bytes."""

    def __init__(self, image: str, move: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source, program = Path(folder, "init.c"), Path(folder, "init")
            source.write_text(RAW)
            flags = ("-O2", "-w", "-static", f"-DMOVE={move}", f"-DSIZE={SIZE}L")
            subprocess.run(["cc", *flags, "-o", program, source], check=True)
            self._bare = Bare(image, init=program.read_bytes())

    def seconds(self, pass_on: Callable[[socket.socket], None]) -> float:
        """Boot a machine, and measure the transfer from the moment that it is ready."""
        qemu, channel = self._bare.spawn()
        try:
            exactly(channel, 1)
            begun = time.monotonic()
            pass_on(channel)
            return time.monotonic() - begun
        finally:
            qemu.kill()
            qemu.wait()
            channel.close()


def exactly(channel: socket.socket, size: int) -> None:
    """Read and discard `size` bytes."""
    while size > 0:
        got = len(channel.recv(min(size, PIECE)))
        if not got:
            raise EOFError("the machine ended early")
        size -= got


def send_all(channel: socket.socket) -> None:
    """Send everything, and wait until the guest confirms that it has received it."""
    piece = bytes(PIECE)
    for _ in range(SIZE // PIECE):
        channel.sendall(piece)
    exactly(channel, 1)


def output(image: str, *command: str) -> float:
    """Seconds from the first byte that a job writes to the last."""
    with subprocess.Popen(
        [*DAYFLY, "run", image, "--no-share", "--", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as job:
        assert job.stdout is not None
        reader = job.stdout.fileno()
        left = SIZE - len(os.read(reader, PIECE))
        begun = time.monotonic()
        while left > 0 and (chunk := os.read(reader, PIECE)):
            left -= len(chunk)
        took = time.monotonic() - begun
    if left or job.returncode:
        raise RuntimeError(f"{command}: {left} bytes are missing, status {job.returncode}")
    return took


def stdin(image: str) -> float:
    """Seconds from the first byte that is sent to a running job until it has read all."""
    script = "echo go; cat > /dev/null; echo done"
    with subprocess.Popen(
        [*DAYFLY, "run", image, "--no-share", "--", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as job:
        assert job.stdin is not None
        assert job.stdout is not None
        job.stdout.read(3)
        begun = time.monotonic()
        piece = bytes(PIECE)
        for _ in range(SIZE // PIECE):
            job.stdin.write(piece)
        job.stdin.close()
        job.stdout.read(5)
        return time.monotonic() - begun


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default="debian:12")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    image: str = arguments.image
    show_host()
    writer, reader = Raw(image, "write"), Raw(image, "read")
    ways: dict[str, Callable[[], float]] = {
        "bare port, guest to host": lambda: writer.seconds(lambda channel: exactly(channel, SIZE)),
        "dayfly run: dd bs=64k": lambda: output(image, "dd", "if=/dev/zero", "bs=64k", f"count={SIZE >> 16}"),
        "dayfly run: dd bs=1M": lambda: output(image, "dd", "if=/dev/zero", "bs=1M", f"count={SIZE >> 20}"),
        "dayfly run: head -c": lambda: output(image, "head", "-c", str(SIZE), "/dev/zero"),
        "bare port, host to guest": lambda: reader.seconds(send_all),
        "dayfly run: stdin to cat": lambda: stdin(image),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(arguments.runs + 1):
        for name, way in ways.items():
            rate = SIZE / way() / 1e6
            if round_ > 0:  # the first warms the page cache
                rates[name].append(rate)
    figures = [Figure(name, tuple(values), "MB/s") for name, values in rates.items()]
    print("\nfrom the job to the host")
    show(figures[0], figures[1:4])
    print("\nfrom the host to the job")
    show(figures[4], figures[5:])


if __name__ == "__main__":
    main()
