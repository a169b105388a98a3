"""Debian and Ubuntu roots, by mmdebstrap."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from dayfly import process
from dayfly.imagebuild.namespace import Namespace

_HOOKS = "/usr/share/mmdebstrap/hooks/merged-usr"
_WITHOUT_MERGED_PACKAGE = frozenset({"stretch", "buster", "bullseye", "bionic", "focal", "jammy"})
"""Releases without the package usr-is-merged, which the second half of mmdebstrap's hook installs."""

_SLIM = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
)
_PASSED_ON = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def command(
    release: str,
    target: Path,
    sources: Sequence[str],
    *,
    variant: str,
    packages: Sequence[str],
    apt_options: Sequence[str] = (),
) -> list[str]:
    """The command that fills a root and writes it as a tar archive."""
    argv = ["mmdebstrap", "--mode=root", "--format=tar", f"--variant={variant}", "--architectures=amd64"]
    argv += [f"--include={','.join(packages)}"] if packages else []
    argv += [f"--aptopt={option}" for option in apt_options]
    if variant != "extract":
        # the modules' filesystem has them in /usr/lib, so /lib must lead there also in a release that still has both
        argv.append(f"--setup-hook={_HOOKS}/setup00.sh" if release in _WITHOUT_MERGED_PACKAGE else f"--hook-dir={_HOOKS}")
        argv += [f"--dpkgopt={option}" for option in _SLIM]
    return [*argv, release, str(target), *sources]


def environment(folder: Path, date: int) -> dict[str, str]:
    """mmdebstrap's environment: of the user's variables only the proxies."""
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return passed_on | {
        "PATH": ":".join(process.search_path()),
        "LC_ALL": "C.UTF-8",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "SOURCE_DATE_EPOCH": str(date),
        "DEBIAN_FRONTEND": "noninteractive",
        "INITRD": "No",  # for /etc/kernel/postinst.d: a machine has its own, and building this one would waste half a minute
    }


def bootstrap(namespace: Namespace, name: str, argv: Sequence[str], date: int, progress: Callable[[str], None]) -> None:
    """Run mmdebstrap. Raises `ProgramFailed` with its last lines, `ProgramMissing`, or `NoSpace`."""
    process.find("mmdebstrap")
    temporary = namespace.make(f"{name}.tmp")
    hint = "see the lines above; a package's name may be misspelt, or not in the recipe's release"
    namespace.run(list(argv), env=environment(temporary, date), progress=lambda line: _pass_on(line, progress), hint=hint)


def _pass_on(line: str, progress: Callable[[str], None]) -> None:
    if line.startswith("I: "):
        progress(line.removeprefix("I: ").rstrip("."))
