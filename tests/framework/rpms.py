"""A repository of RPM packages, made on the spot: a base with busybox, and a tool that needs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

BASE = """
Name: tiny-base
Version: 1
Release: 1
Summary: What a root begins with
License: none
AutoReqProv: no
Provides: /bin/sh
%description
Busybox.
%install
mkdir -p %{buildroot}/usr/bin %{buildroot}/etc %{buildroot}/var/lib
cp /bin/busybox %{buildroot}/usr/bin/busybox
for name in sh cat id ls stat find; do ln -s busybox %{buildroot}/usr/bin/$name; done
ln -s usr/bin %{buildroot}/bin
echo 'root:x:0:0:root:/root:/bin/sh' > %{buildroot}/etc/passwd
printf 'ID=tiny\\nVERSION_ID=1\\nPRETTY_NAME="Tiny 1"\\n' > %{buildroot}/etc/os-release
%files
/usr/bin/*
/bin
%config /etc/passwd
/etc/os-release
"""
TOOL = """
Name: Tiny_Tool
Version: 2
Release: 3
Summary: A tool
License: none
AutoReqProv: no
Requires: tiny-base, /bin/sh
%description
A tool.
%install
mkdir -p %{buildroot}/usr/bin %{buildroot}/srv
echo '#!/bin/sh
echo the tool runs' > %{buildroot}/usr/bin/tool
echo > %{buildroot}/usr/bin/raw
echo > %{buildroot}/srv/private
%post
echo "$(id -u) $(cat /etc/os-release)" > /etc/configured
%files
%attr(4755, root, root) /usr/bin/tool
%attr(0755, root, root) %caps(cap_net_raw=p) /usr/bin/raw
%attr(0640, root, root) /srv/private
"""


def repository(folder: Path, *, key: Path | None = None) -> Path:
    """The repository's folder; with a `key`, the packages are signed, and its public half is in that file afterwards."""
    build, target = folder / "rpmbuild", folder / "repository"
    target.mkdir(parents=True)
    for name, text in (("base", BASE), ("tool", TOOL)):
        (folder / f"{name}.spec").write_text(text)
        define = ["--define", f"_topdir {build}", "--define", "_build_id_links none", "--define", "debug_package %{nil}"]
        run("rpmbuild", "-bb", "--quiet", "--target", "x86_64", *define, str(folder / f"{name}.spec"))
    for path in build.rglob("*.rpm"):
        shutil.move(path, target)
    if key is not None:
        _sign(sorted(target.glob("*.rpm")), key)
    run("createrepo_c", "--quiet", str(target))
    return target


def _sign(packages: list[Path], key: Path) -> None:
    home = tempfile.mkdtemp(prefix="dayfly-gpg-")  # its agent's socket has a short name only here
    environment = {"GNUPGHOME": home}
    try:
        run("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "tests", "rsa2048", "sign", env=environment)
        key.write_bytes(run("gpg", "--armor", "--export", "tests", env=environment))
        define = ["--define", "_gpg_name tests", "--define", "__gpg /usr/bin/gpg", "--define", "_gpg_sign_cmd_extra_args --batch"]
        run("rpmsign", *define, "--addsign", *map(str, packages), env=environment)
    finally:
        run("gpgconf", "--kill", "all", env=environment)
        shutil.rmtree(home, onerror=_unless_gone)


def _unless_gone(_: object, __: str, error: tuple[type[BaseException], BaseException, TracebackType]) -> None:
    """The agent that was told to end removes its sockets by itself, maybe later."""
    if not isinstance(error[1], FileNotFoundError):
        raise error[1]


def run(*command: str, env: dict[str, str] | None = None) -> bytes:
    done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, **(env or {})})
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
