"""The description of a job, as values, and the checks that need only the description and this host."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from dayfly.errors import Refused
from dayfly.guest.boot import BootMode
from dayfly.guest.protocol import Link
from dayfly.job.links import followed
from dayfly.machine.command import MOST_SHARES
from dayfly.machine.config import CpuModel, Network, Shape, Share
from dayfly.values import dataclass, field, replace

_OF_THE_IMAGE = frozenset(
    (
        "/",
        "/bin",
        "/boot",
        "/dev",
        "/etc",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
        "/proc",
        "/run",
        "/sbin",
        "/sys",
        "/usr",
        "/usr/bin",
        "/usr/lib",
        "/usr/lib32",
        "/usr/lib64",
        "/usr/libexec",
        "/usr/libx32",
        "/usr/sbin",
        "/usr/share",
        "/var",
        "/var/lib",
    )
)


@dataclass(frozen=True)
class Folder:
    """A folder of the host that the job shares, at the same path."""

    path: str
    readonly: bool = False


@dataclass(frozen=True)
class Capture:
    """Where the files of a job's machine are written, as an archive: if the job succeeded, or with `failed_too` in any case."""

    descriptor: int
    failed_too: bool = False


@dataclass(frozen=True)
class JobDescription:
    """A job. Sizes are in bytes, times in seconds; `environment` holds `NAME=value`, in the host's bytes.

    Without a `command`, the image's own is run. With `own_path` the PATH was given for this job, and is used unchanged.

    `directory` is the caller's, as in PWD, shared unless `share_directory` is False; the job starts there, or in `workdir`.
    The `cpu_model` is the settings' where it is None. A `cold` job's machine always has a cold start. A `guarded` one uses
    nothing that the user could have altered: no template and no empty filesystem of the user's own caches. `terminal`:
    whether the job gets one (None: when stdin and stdout are both terminals). `batch` is the job's identity in a batch
    system, for its record, and `account` its account, if the batch system says it; with `as_signal` its death by a signal is
    reported as the signal's negative number, not as 128 + n.
    """

    image: str
    command: tuple[str, ...]
    shape: Shape
    scratch: int
    directory: str
    environment: tuple[bytes, ...]
    own_path: bool = False
    shares: tuple[Folder, ...] = ()
    share_directory: bool = True
    workdir: str = ""
    network: Network = Network.NONE
    boot: BootMode | None = None
    cpu_model: CpuModel | None = None
    root: bool = False
    terminal: bool | None = None
    timeout: float | None = None
    name: str = ""
    batch: Mapping[str, str] = field(default_factory=dict)
    account: str = ""
    as_signal: bool = False
    cold: bool = False
    guarded: bool = False
    capture: Capture | None = None


def parse_folder(text: str) -> Folder:
    """`PATH`, `PATH:ro` or `PATH:rw`. Raises `Refused` if there is no such folder, or it would hide the image's own."""
    path, _, mode = text.rpartition(":")
    if not path or mode not in ("ro", "rw"):
        path, mode = text, "rw"
    if not path:
        raise Refused("the path of a shared folder is empty", "is a variable in it not set?")
    path = os.path.abspath(path)  # noqa: PTH100 (unlike Path.absolute, it takes `..` out)
    if not os.path.isdir(path):  # noqa: PTH112 (hot path of every job)
        raise Refused(f"{path} is not a folder that can be shared", "--share needs a folder of this host")
    if hides_image(path):
        raise Refused(f"sharing {path} would hide the image's own", "share a folder below it")
    return Folder(path, mode == "ro")


def leads_to(folder: Folder) -> tuple[Folder, tuple[Link, ...]]:
    """The folder by its real path, and the links on the way.

    If the real path would hide the image's files, the folder keeps its own path.
    """
    path, links = followed(folder.path)
    return (folder, ()) if hides_image(path) else (replace(folder, path=path), links)


def hides_image(path: str) -> bool:
    """Whether a folder shared at this path would hide the guest's operating system."""
    return path in _OF_THE_IMAGE


def mounts(folders: Sequence[Folder]) -> tuple[tuple[Share, ...], tuple[Link, ...]]:
    """The machine's shares for these folders, and the links on the way to them.

    Each folder is shared once (the last one counts), at its real path, parents before the folders below them. Raises
    `Refused` if there are more than a machine can have.
    """
    followed_folders = [leads_to(folder) for folder in folders]
    by_path = {folder.path: folder for folder, _ in followed_folders}
    links = dict.fromkeys(link for _, ways in followed_folders for link in ways)
    if len(by_path) > MOST_SHARES:
        raise Refused(f"{len(by_path)} shared folders are more than the {MOST_SHARES} that a machine can have", "share a parent")
    shares = tuple(
        Share(f"share{index}", folder.path, folder.path, folder.readonly)
        for index, folder in enumerate(sorted(by_path.values(), key=lambda folder: folder.path.split("/")))
    )
    return shares, tuple(links)


def check_listable(shares: Sequence[Share]) -> None:
    """Raise `Refused` for folders that QEMU cannot share: it has the rights of the user who runs the job."""
    for share in shares:
        if not os.access(share.source, os.R_OK | os.X_OK):
            message = f"{share.source} cannot be shared: the job's user may not list or enter it"
            raise Refused(message, "share another folder, or change its permissions")
