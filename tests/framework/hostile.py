"""Images whose /init is the attacker's."""

from __future__ import annotations

import subprocess
from pathlib import Path

from dayfly.image.library import Library, Source
from dayfly.image.manifest import ImageConfig, Kernel, OperatingSystem, Role
from dayfly.image.reference import parse
from tests.framework.site import Site

PRELUDE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
static int port; static char room[65536];
static void put(const void *bytes, unsigned long size) {
  const char *at = bytes; while (size) { long n = write(port, at, size); if (n <= 0) pause(); at += n; size -= n; } }
static void frame(uint8_t type, uint8_t stream, uint16_t zero, uint32_t length) {
  char head[8]; head[0] = type; head[1] = stream; memcpy(head + 2, &zero, 2); memcpy(head + 4, &length, 4); put(head, 8); }
static void hello(uint16_t version) { char body[8] = "DFLY"; memcpy(body + 4, &version, 2); frame(1, 0, 0, 8); put(body, 8); }
static void stage(uint8_t number) { frame(2, 0, 0, 1); put(&number, 1); }
static void started(void) { frame(4, 0, 0, 4); put("\1\0\0\0", 4); }
static void wait_start(void) { char head[8]; read(port, head, 8); }
static void get(char *to, unsigned long size) {
  while (size) { long n = read(port, to, size); if (n <= 0) pause(); to += n; size -= n; } }
static uint8_t next(void) { char head[8]; uint32_t size; get(head, 8); memcpy(&size, head + 4, 4);
  for (; size; size -= size < sizeof room ? size : sizeof room) get(room, size < sizeof room ? size : sizeof room);
  return head[0]; }
static void wait_for(uint8_t type) { while (next() != type) ; }
static void end(uint8_t stream) { frame(6, stream, 0, 0); }
static void exited(void) { char body[48] = {0}; frame(9, 0, 0, 48); put(body, 48); }
static void load(const char *name) {
  int file = open(name, O_RDONLY); if (file >= 0) { syscall(SYS_finit_module, file, "", 0); close(file); } }
int main(void) {
  mkdir("/dev", 0755); mount("dev", "/dev", "devtmpfs", 0, ""); chdir("/modules");
  static char list[8192]; int file = open("load", O_RDONLY); long n = read(file, list, sizeof list - 1); (void)n;
  for (char *line = strtok(list, "\n"); line; line = strtok(0, "\n")) load(line);
  for (int i = 0; i < 10000; i++) {
    char name[] = "/dev/vport0p1"; name[10] = '0' + i % 10;
    if ((port = open(name, O_RDWR)) >= 0) break;
    usleep(1000);
  }
  (void)hello; (void)stage; (void)started; (void)wait_start; (void)frame; (void)put;
"""


def compiled(folder: Path, body: str) -> bytes:
    """A static /init that does this instead of being the agent."""
    source, program = folder / "init.c", folder / "init"
    source.write_text(PRELUDE + body + "\n for (;;) pause(); }\n")
    subprocess.run(["cc", "-std=gnu11", "-O1", "-w", "-static", "-o", str(program), str(source)], check=True)
    return program.read_bytes()


def hostile_image(
    site: Site, name: str, boot_modules: bytes, *, root: bytes | None = None, kernel: bytes | None = None, **settings: str
) -> None:
    """An image of the site's own library, like debian:12 but for what is given; `settings` are for the site."""
    good = Library(site.library).open(parse("debian:12"))
    assert good.kernel is not None
    library = Library(site.folder / "work/library")
    layers = {
        Role.ROOT: Source(good.root.form, root if root is not None else good.root.path),
        Role.KERNEL: Source("elf", kernel if kernel is not None else good.kernel.path),
        Role.BOOT_MODULES: Source("cpio", boot_modules),
    }
    config = ImageConfig(OperatingSystem("debian", "12"), Kernel("6.1"))
    library.add(config, layers, parse(name).name)
    good.close()
    site.configure(library_user=str(site.folder / "work/library"), machine_boot_timeout="60s", **settings)


def boot_modules(site: Site) -> bytes:
    with Library(site.library).open(parse("debian:12")) as opened:
        assert opened.boot_modules is not None
        return opened.boot_modules.path.read_bytes()
