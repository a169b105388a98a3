"""Disks as clouds have them, put together from files without root's rights and without loop devices."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dayfly.imagebuild import archives

SECTOR = 512
MIB = 1024**2
TIME = 1_700_000_000
LABEL = "cloudimg-rootfs"
PACKAGES = ("systemd-sysv", "udev", "cloud-init", "linux-image-amd64", "iproute2", "python3", "ca-certificates", "libcap2-bin")
_BARE = """
drivers/gpu drivers/media drivers/infiniband drivers/staging drivers/iio drivers/scsi drivers/usb drivers/hid drivers/md
drivers/hwmon drivers/net/ethernet drivers/net/wireless drivers/net/usb drivers/net/can drivers/net/phy drivers/isdn drivers/mtd
drivers/input drivers/power drivers/video sound net/bluetooth net/mac80211 net/netfilter net/sched lib/test_bpf.ko
fs/ocfs2 fs/btrfs fs/xfs fs/nfs fs/nfsd fs/ceph
"""
"""Modules that a machine has no use for: half of what would have to be packed."""
_MASKED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service"),
    *("fstrim.timer", "modprobe@drm.service", "modprobe@fuse.service", "modprobe@loop.service", "modprobe@efi_pstore.service"),
    *("sys-kernel-debug.mount", "sys-kernel-tracing.mount", "systemd-binfmt.service", "systemd-pstore.service"),
)
"""Units that only take time."""
_FINISH = f"""
set -e
cd "$1"
modules=$(ls -d usr/lib/modules/*)
for folder in {" ".join(_BARE.split())}; do rm -rf "$modules/kernel/$folder"; done
chroot . depmod "$(basename "$modules")"
rm -rf usr/share/locale/* usr/share/doc/* usr/share/man/* usr/share/i18n var/cache/apt/* var/lib/apt/lists/*
rm -rf usr/share/perl usr/lib/x86_64-linux-gnu/perl usr/lib/x86_64-linux-gnu/gconv usr/lib/udev/hwdb*
printf 'LABEL={LABEL} / ext4 defaults 0 1\\nLABEL=UEFI /boot/efi vfat umask=0077,nofail 0 1\\n' > etc/fstab
printf 'datasource_list: [ NoCloud, None ]\\n' > etc/cloud/cloud.cfg.d/90_tests.cfg
echo 'cloud_init_modules: [seed_random]' >> etc/cloud/cloud.cfg.d/90_tests.cfg
echo 'cloud_config_modules: [runcmd]' >> etc/cloud/cloud.cfg.d/90_tests.cfg
echo 'cloud_final_modules: [scripts-user]' >> etc/cloud/cloud.cfg.d/90_tests.cfg
for unit in {" ".join(_MASKED)}; do ln -sf /dev/null etc/systemd/system/$unit; done
echo cloudy > etc/hostname
: > etc/machine-id
mkdir opt/tricks
echo capable > opt/tricks/capable
chmod 755 opt/tricks/capable
chroot . setcap cap_net_raw+ep /opt/tricks/capable
echo setuid > opt/tricks/setuid
chown 1000:2000 opt/tricks/setuid
chmod 4755 opt/tricks/setuid
ln opt/tricks/setuid opt/tricks/hard
truncate -s 1M opt/tricks/holes
"""


@dataclass(frozen=True)
class Partition:
    """One of a disk: where it is (in MiB), its type as sfdisk has it, its number, and the file with its content."""

    start: int
    size: int
    type: str
    number: int
    content: Path | None = None


def run(*command: object, **options: object) -> str:
    """A program's output."""
    settings = {"check": True, "capture_output": True, "text": True, **options}
    try:
        done: subprocess.CompletedProcess[str] = subprocess.run([*map(str, command)], **settings)  # type: ignore[call-overload]
    except subprocess.CalledProcessError as error:
        raise AssertionError(f"{command[0]}: {error.stderr}") from error
    return done.stdout


def assemble(target: Path, size: int, partitions: Sequence[Partition], table: str = "gpt") -> Path:
    """A raw disk of so many MiB."""
    with target.open("wb") as file:
        file.truncate(size * MIB)
    lines = [f"label: {table}"]
    lines += [f"{one.number}: start={one.start * 2048}, size={one.size * 2048}, type={one.type}" for one in partitions]
    run("sfdisk", "--quiet", target, input="\n".join(lines) + "\n")
    for one in partitions:
        if one.content is not None:
            run("dd", f"if={one.content}", f"of={target}", "bs=1M", f"seek={one.start}", "conv=notrunc,sparse")
    return target


def ext(target: Path, folder: Path, size: int, *options: str, kind: str = "ext4", label: str = LABEL) -> Path:
    """A filesystem of so many MiB with the files of a folder."""
    environment = {**os.environ, "E2FSPROGS_FAKE_TIME": str(TIME)}
    run("mke2fs", "-q", "-t", kind, "-L", label, *options, "-d", folder, target, f"{size}M", env=environment)
    return target


def _boot_by_bios(disk: Path, folder: Path, core_at: int) -> None:
    """GRUB's first sector in the first of the disk, and the rest of it from `core_at` (in MiB) on: GRUB's manual, "Images"."""
    (folder / "early.cfg").write_text(
        "set root=(hd0,gpt1)\n"
        f"linux /vmlinuz root=LABEL={LABEL} ro console=ttyS0 tsc=reliable no_timer_check nokaslr\ninitrd /initrd.img\nboot\n"
    )
    core = folder / "core.img"
    modules = ("biosdisk", "part_gpt", "ext2", "linux")
    run("grub-mkimage", "-O", "i386-pc", "-o", core, "-p", "(hd0,gpt1)/boot/grub", "-c", folder / "early.cfg", *modules)
    content = bytearray(core.read_bytes())
    sector = core_at * MIB // SECTOR
    struct.pack_into("<Q", content, 0x1F4, sector + 1)
    first = bytearray(Path("/usr/lib/grub/i386-pc/boot.img").read_bytes())
    struct.pack_into("<Q", first, 0x5C, sector)
    with disk.open("r+b") as file:
        file.write(first[:440])
        file.seek(core_at * MIB)
        file.write(content)


_BEFORE = (
    'mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"; '
    'echo MODULES=list > "$1/etc/initramfs-tools/conf.d/tests"; '
    'printf "virtio_pci\\nvirtio_blk\\next4\\n" > "$1/usr/share/initramfs-tools/modules.d/tests"'
)
"""So that the initramfs is made once, and small."""


def _sources() -> list[str]:
    archive = archives.choose(archives.configured(), archives.DISTRIBUTIONS["debian"], "")
    with tempfile.TemporaryDirectory() as folder:
        found = archives.available(archive, "bookworm", Path(folder))
    return archives.source_lines(found, ("main",), archive.keyring)


def _make_debian(target: Path, folder: Path) -> None:
    root = os.geteuid() == 0
    mode = "root" if root else "unshare"
    alone = (  # a kill leaves no mounts
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"] if root else []
    )
    options = [f"--aptopt={option}" for option in archives.options()]
    environment = {**os.environ, "TMPDIR": str(folder)}
    words = [f"--mode={mode}", "--variant=minbase", f"--include={','.join(PACKAGES)}", *options, f"--essential-hook={_BEFORE}"]
    words += [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "man", "info", "locale", "i18n")]
    run(
        *(*alone, "mmdebstrap", *words, f"--customize-hook={_hook(folder)}", "bookworm", folder / "root.tar", *_sources()),
        env=environment,
    )
    folder.chmod(0o755)
    unpack = f"mkdir {folder}/root && tar -C {folder}/root --xattrs --xattrs-include='*' -xpf {folder}/root.tar"
    script = f"{unpack} && mke2fs -q -t ext4 -L {LABEL} -d {folder}/root {folder}/root.img 600M && rm -r {folder}/root"
    own = [] if root else ["unshare", "--user", "--map-root-user", "--map-auto", "--"]
    run(*own, "sh", "-c", script)
    disk = assemble(
        folder / "disk.raw",
        604,
        [
            Partition(2, 600, "0FC63DAF-8483-4772-8E79-3D69D8477DE4", 1, folder / "root.img"),
            Partition(1, 1, "21686148-6449-6E6F-744E-656564454649", 14),
        ],
    )
    _boot_by_bios(disk, folder, 1)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd", disk, folder / "disk.qcow2")
    (folder / "disk.qcow2").rename(target)


def _hook(folder: Path) -> Path:
    script = folder / "finish"
    script.write_text(f"#!/bin/sh{_FINISH}")
    script.chmod(0o755)
    return script


def kept(place: Path, name: str, make: Callable[[Path, Path], None]) -> Path:
    """A file that takes long to make: made once for all workers and later runs, by `make(target, folder for its work)`."""
    place.mkdir(parents=True, exist_ok=True)
    target = place / name
    with (place / "tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            for left in place.glob("making-*"):
                shutil.rmtree(left)
            folder = Path(tempfile.mkdtemp(dir=place, prefix="making-"))
            try:
                make(target, folder)
            finally:
                shutil.rmtree(folder)
    return target


def debian(place: Path) -> Path:
    """A qcow2 with Debian 12 as clouds have it: systemd, cloud-init, its own kernel, and GRUB for a BIOS."""
    return kept(place, "debian-12-cloud-4.qcow2", _make_debian)
