"""Images to test with."""

from __future__ import annotations

from dayfly.guest.boot import BootMode
from dayfly.image.library import Source
from dayfly.image.manifest import ImageConfig, Kernel, OperatingSystem, Role

CONFIG = ImageConfig(
    os=OperatingSystem("debian", "12", "Debian GNU/Linux 12 (bookworm)"),
    kernel=Kernel("6.1.0-44-amd64", "quiet"),
    boot=BootMode.SYSTEM,
    size=123456,
    created="2026-01-02T03:04:05Z",
    recipe="sha256:" + "ab" * 32,
    default_user="worker",
    environment={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    labels={"org.example.note": "for tests"},
)
LAYERS = {
    Role.ROOT: Source("erofs", b"the root" * 1000),
    Role.KERNEL: Source("elf", b"\x7fELF the kernel"),
    Role.MODULES: Source("erofs", b"the modules" * 100),
    Role.BOOT_MODULES: Source("cpio", b"the modules that it boots with"),
}
