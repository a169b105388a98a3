"""The report of an image's content, gathered from the image's root."""

from __future__ import annotations

import fnmatch
import posixpath
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from dayfly.errors import Refused
from dayfly.image.inspection import accounts, osv, packages, privileges, services
from dayfly.image.inspection.accounts import Account, Key
from dayfly.image.inspection.erofs import Erofs
from dayfly.image.inspection.osv import Vulnerability
from dayfly.image.inspection.packages import Package
from dayfly.image.inspection.privileges import Capable, SetId
from dayfly.image.inspection.services import Listener, Service, Sshd
from dayfly.image.inspection.texts import shown
from dayfly.image.inspection.tree import Tree, Unread
from dayfly.values import dataclass, replace

SCHEMA = 1
MOST_FOUND = 20_000
"""The most files of one kind in a report."""
_OS_RELEASE_LIMIT = 64 * 1024
_RPM = ("/var/lib/rpm", "/usr/lib/sysimage/rpm")
_HOST_KEY = re.compile(r"ssh_host_[A-Za-z0-9_-]+_key")
_MOST_INCLUDES = 32
_SSHD_CONFIG = "/etc/ssh/sshd_config"
_RELEASE = re.compile(r"([A-Z][A-Z0-9_]{0,63})=(.*)")


@dataclass(frozen=True)
class HostKey:
    """A private host key of sshd: the same in every machine of the image."""

    path: str
    size: int


@dataclass(frozen=True)
class Contents:
    """What is in an image's root. `vulnerabilities` is None if no list of them was given."""

    os: Mapping[str, str]
    packages: tuple[Package, ...]
    accounts: tuple[Account, ...]
    keys: tuple[Key, ...]
    setid: tuple[SetId, ...]
    capabilities: tuple[Capable, ...]
    services: tuple[Service, ...]
    listeners: tuple[Listener, ...]
    sshd: Sshd | None
    host_keys: tuple[HostKey, ...]
    vulnerabilities: tuple[Vulnerability, ...] | None
    unread: tuple[Unread, ...]


def contents(root: int, form: str) -> Contents:
    """Read an image's root, an open file; for vulnerabilities see `known_problems`.

    Raises `Refused` for a filesystem that cannot be read, `Corrupt`.
    """
    if form != "erofs":
        raise Refused(f"the root is {form}; only erofs can be inspected", "build the image with this version of Dayfly")
    tree = Tree(Erofs(root))
    setid, capable = _privileged(tree)
    release = os_release(tree.read("/etc/os-release", _OS_RELEASE_LIMIT, "os") or b"")
    installed = _packages(tree)
    enabled = _enabled(tree)
    sshd = _sshd(tree)
    people = _accounts(tree)
    return Contents(
        os=release,
        packages=tuple(installed),
        accounts=tuple(accounts.harmless(account) for account in people),
        keys=tuple(_keys(tree, people, sshd)),
        setid=setid,
        capabilities=capable,
        services=tuple(Service(shown(unit), tuple(map(shown, targets))) for unit, targets in sorted(enabled.items())),
        listeners=tuple(_listeners(tree, enabled, sshd)),
        sshd=services.harmless(sshd) if sshd else None,
        host_keys=tuple(_host_keys(tree)),
        vulnerabilities=None,
        unread=tuple(tree.unread),
    )


def os_release(content: bytes) -> dict[str, str]:
    """What an os-release file says (os-release(5)). Pure."""
    found: dict[str, str] = {}
    for line in content.decode("utf-8", "backslashreplace").split("\n"):
        match = _RELEASE.fullmatch(line.strip())
        if match and len(found) < 100:
            found[match[1]] = shown(_unquoted(match[2].strip()))
    return found


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return re.sub(r"\\(.)", r"\1", value)


def _privileged(tree: Tree) -> tuple[tuple[SetId, ...], tuple[Capable, ...]]:
    """The files with set-uid or set-gid bits, and those with capabilities."""
    setid: list[SetId] = []
    capable: list[Capable] = []
    for path, inode in tree.walk():
        if not inode.is_file:
            continue
        if inode.mode & (stat.S_ISUID | stat.S_ISGID):
            setid.append(SetId(shown(path), f"{stat.S_IMODE(inode.mode):04o}", inode.uid, inode.gid))
        if inode.xattrs and (raw := tree.xattrs(inode).get(privileges.CAPABILITY)) is not None:
            capable.append(Capable(shown(path), privileges.capabilities(raw)))
        if len(setid) > MOST_FOUND or len(capable) > MOST_FOUND:
            raise Refused(f"it has more than {MOST_FOUND} files with privileges")
    return tuple(sorted(setid, key=lambda file: file.path)), tuple(sorted(capable, key=lambda file: file.path))


def _packages(tree: Tree) -> list[Package]:
    """What dpkg has installed; images without a package manager have one file for each package in `status.d`."""
    section, status = "packages", "/var/lib/dpkg/status"
    found: dict[tuple[str, str], Package] = {}
    sources = [(status, False)]
    sources += [(f"{status}.d/{name}", True) for name in tree.names(f"{status}.d") if not name.endswith(".md5sums")]
    there = False
    for path, always in sources:
        content = tree.read(path, packages.STATUS_LIMIT, section)
        there = there or content is not None
        for package in packages.parse_status(content or b"", always=always):
            found[package.name, package.architecture] = package
    for folder in _RPM:
        if tree.names(folder):
            tree.pass_over(section, folder, "RPM databases are not supported")
    if not there and not any(noted.section == section for noted in tree.unread):
        tree.pass_over(section, status, "there is no dpkg database, and no other is supported")
    return [found[key] for key in sorted(found)]


def _accounts(tree: Tree) -> list[Account]:
    section = "accounts"
    passwd = tree.read("/etc/passwd", accounts.LIMIT, section)
    shadow = tree.read("/etc/shadow", accounts.LIMIT, section)
    found, bad = accounts.parse_passwd(passwd or b"", shadow or b"")
    if bad:
        tree.pass_over(section, "/etc/passwd", f"{bad} malformed lines")
    return found


def _keys(tree: Tree, people: list[Account], sshd: Sshd | None) -> list[Key]:
    """The keys that sshd accepts for the accounts; without sshd, those in the usual files."""
    section = "keys"
    files = sshd.keys_files if sshd else services.KEYS_FILES
    found: list[Key] = []
    seen: dict[str, bytes | None] = {}
    for account in people:
        for path in services.keys_paths(files, account.name, account.home):
            if path not in seen:
                seen[path] = tree.read(path, accounts.KEYS_LIMIT, section)
            keys, bad = accounts.parse_keys(seen[path] or b"", account.name, path)
            found += keys
            if bad:
                tree.pass_over(section, path, f"{bad} malformed lines")
            if len(found) > MOST_FOUND:
                raise Refused(f"it has more than {MOST_FOUND} keys")
    if sshd and sshd.keys_command:
        tree.pass_over(section, _SSHD_CONFIG, f"keys come from a command: {sshd.keys_command}")
    return found


def _host_keys(tree: Tree) -> list[HostKey]:
    found = []
    for name in tree.names("/etc/ssh"):
        inode = tree.find(f"/etc/ssh/{name}") if _HOST_KEY.fullmatch(name) else None
        if inode is not None and inode.is_file and inode.size:
            found.append(HostKey(f"/etc/ssh/{name}", inode.size))
    return found


def _enabled(tree: Tree) -> dict[str, dict[str, None]]:
    """The services and sockets that are wanted by other units, each with those units. Masked ones are left out (systemctl(1))."""
    found: dict[str, dict[str, None]] = {}
    masked: dict[str, bool] = {}
    count = 0
    for folder in services.FOLDERS:
        for wanting in tree.names(folder):
            target, dot, kind = wanting.rpartition(".")
            for unit in tree.names(f"{folder}/{wanting}") if dot and kind in services.WANTING else ():
                count += 1
                if count > MOST_FOUND:
                    raise Refused(f"it enables more than {MOST_FOUND} units")
                if services.UNIT.fullmatch(unit) and unit not in masked:
                    masked[unit] = _masked(tree, unit)
                if not masked.get(unit, True):
                    found.setdefault(unit, {})[target] = None
    return found


def _masked(tree: Tree, unit: str) -> bool:
    """Whether a unit is masked: its first file is empty or a link to /dev/null."""
    for folder in services.FOLDERS:
        if tree.has(f"{folder}/{unit}"):
            found = tree.find(f"{folder}/{unit}")
            return tree.target(f"{folder}/{unit}") == "/dev/null" or (found is not None and found.is_file and not found.size)
    return False


def _listeners(tree: Tree, enabled: Mapping[str, Iterable[str]], sshd: Sshd | None) -> list[Listener]:
    found = []
    for unit, targets in sorted(enabled.items()):
        if unit.endswith(".socket"):
            found += services.listeners(unit, _texts(tree, unit, targets))
        elif sshd is not None and unit in ("ssh.service", "sshd.service"):
            found += [Listener(unit, "stream", address, network=True) for address in services.addresses(sshd)]
        if len(found) > MOST_FOUND:
            raise Refused(f"its units listen on more than {MOST_FOUND} addresses")
    return found


def _texts(tree: Tree, unit: str, targets: Iterable[str]) -> list[bytes]:
    """A unit's file and its drop-ins, in the order in which systemd reads them."""
    section = "services"
    names = list(dict.fromkeys((unit, re.sub(r"@.*\.", "@.", unit))))
    places = [f"{folder}/{name}" for name in names for folder in services.FOLDERS]
    places += [
        f"{folder}/{target}.{kind}/{unit}" for folder in services.FOLDERS for target in targets for kind in services.WANTING
    ]
    own = next((place for place in places if tree.find(place) is not None), "")
    files = [own] if own else []
    if not own:
        tree.pass_over(section, unit, "its file does not exist")
    added = {
        name: f"{folder}/{named}.d/{name}"
        for named in reversed(names)
        for folder in reversed(services.FOLDERS)
        for name in tree.names(f"{folder}/{named}.d")
        if name.endswith(".conf")
    }
    files += [added[name] for name in sorted(added)]
    contents = [tree.read(path, services.UNIT_LIMIT, section) for path in files]
    return [content for content in contents if content is not None]


def _sshd(tree: Tree) -> Sshd | None:
    """sshd's settings; None if it has none. Included files are read in place, one level deep."""
    content = tree.read(_SSHD_CONFIG, services.CONFIG_LIMIT, "ssh")
    if content is None:
        return None
    lines: list[list[str]] = []
    patterns: list[str] = []
    for line in services.config_lines(content):
        if line[0] != "include":
            lines.append(line)
            continue
        patterns += line[1:]
        if len(patterns) > _MOST_INCLUDES:
            tree.pass_over("ssh", _SSHD_CONFIG, f"it has more than {_MOST_INCLUDES} Include patterns")
            break
        for pattern in line[1:]:
            lines += _included(tree, pattern)
    return services.read_sshd(lines)


def _included(tree: Tree, pattern: str) -> list[list[str]]:
    folder, name = posixpath.split(pattern if pattern.startswith("/") else f"/etc/ssh/{pattern}")
    lines: list[list[str]] = []
    for found in tree.names(folder):
        if fnmatch.fnmatchcase(found, name):
            path = f"{folder}/{found}"
            inner = services.config_lines(tree.read(path, services.CONFIG_LIMIT, "ssh") or b"")
            if any(line[0] == "include" for line in inner):
                tree.pass_over("ssh", path, "it includes further files, which are not read")
            # A `Match` in a file that is included ends with that file (sshd_config(5)).
            lines += [*inner, ["match", "all"]] if any(line[0] == "match" for line in inner) else inner
    return lines


def known_problems(found: Contents, advisories: Path) -> Contents:
    """The contents with the vulnerabilities from a file, or a folder of files, in the OSV format.

    Raises `NotFound`, `Refused`.
    """
    version = found.os.get("VERSION_ID", "")
    if found.os.get("ID") != "debian" or not version:
        why = Unread("vulnerabilities", "/etc/os-release", "vulnerabilities are checked for releases of Debian only")
        return replace(found, vulnerabilities=(), unread=(*found.unread, why))
    return replace(found, vulnerabilities=tuple(osv.find(found.packages, version, osv.records(advisories))))
