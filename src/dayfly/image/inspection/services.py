"""What a root's init starts and listens on: systemd's units (systemd.unit(5), systemd.socket(5)) and sshd's settings. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

from dayfly.image.inspection.texts import shown
from dayfly.values import dataclass, replace

UNIT_LIMIT = 256 * 1024
CONFIG_LIMIT = 256 * 1024
FOLDERS = ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
"""The folders of units: the first that has a unit of a name decides. /run is empty when a machine starts."""
UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]{1,250}\.(?:service|socket)")
KEYS_FILES = (".ssh/authorized_keys", ".ssh/authorized_keys2")
"""sshd's default files of keys."""
WANTING = ("wants", "requires", "upholds")
LISTENS = {"ListenStream": "stream", "ListenDatagram": "datagram", "ListenSequentialPacket": "sequential"}
_PATHS = ("/", "@", "%t", "%S", "%C", "%L", "%E", "%T", "%V", "%h")
"""How an address begins that is a path in the machine, or a name in its abstract namespace (systemd.unit(5), "Specifiers")."""
_PORT = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True)
class Service:
    """An enabled unit: its name, and the targets that want it."""

    unit: str
    wanted_by: tuple[str, ...]


@dataclass(frozen=True)
class Listener:
    """An address that a unit would listen on from the start. `network` is false for a path in the machine."""

    unit: str
    kind: str
    address: str
    network: bool


@dataclass(frozen=True)
class Sshd:
    """The settings in sshd_config, or sshd's defaults. `conditional`: there are `Match` blocks, which may differ.

    `keys_files` are as written, see `harmless`.
    """

    ports: tuple[int, ...]
    addresses: tuple[str, ...]
    permit_root_login: str
    password_authentication: str
    permit_empty_passwords: str
    keys_files: tuple[str, ...]
    keys_command: str = ""
    conditional: bool = False


def listeners(unit: str, texts: Iterable[bytes]) -> list[Listener]:
    """What a socket unit and its drop-ins, in their order, listen on. An empty value clears the earlier ones."""
    found: list[Listener] = []
    for text in texts:
        for section, name, value in _assignments(text):
            if section != "Socket" or name not in LISTENS:
                continue
            if not value:
                found.clear()
                continue
            address = _specified(value, unit)
            if len(found) < 1000:
                found.append(Listener(shown(unit), LISTENS[name], shown(address), not address.startswith(_PATHS)))
    return found


def _specified(value: str, unit: str) -> str:
    """A value with the specifiers for its unit's name expanded (systemd.unit(5), "Specifiers"); others stay."""
    name = unit.rpartition(".")[0]
    prefix, _, instance = name.partition("@")
    last = prefix.rpartition("-")[2]
    known = {"%": "%", "n": unit, "N": name, "p": prefix, "i": instance, "j": last}
    known |= {"P": _unescaped(prefix), "I": _unescaped(instance), "J": _unescaped(last)}
    return re.sub("%(.)", lambda match: known.get(match[1], match[0]), value)


def _unescaped(text: str) -> str:
    r"""`a-b\x2dc` means `a/b-c` (systemd-escape(1))."""
    return re.sub(r"\\x([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), text.replace("-", "/"))


def _assignments(text: bytes) -> list[tuple[str, str, str]]:
    """Section, name and value of each assignment of a unit file (systemd.syntax(7))."""
    found: list[tuple[str, str, str]] = []
    section, pending = "", ""
    for raw in text.decode("utf-8", "backslashreplace").split("\n"):
        line = raw.strip()
        if (not line and not pending) or line.startswith(("#", ";")):
            continue
        if line.endswith("\\"):
            pending += line[:-1] + " "
            continue
        line, pending = (pending + line).strip(), ""
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif "=" in line:
            name, _, value = line.partition("=")
            found.append((section, name.strip(), value.strip()))
    return found


def config_lines(content: bytes) -> list[list[str]]:
    """The words of each line of an sshd_config, the keyword in lower case (sshd_config(5))."""
    found = []
    for line in content.decode("utf-8", "surrogateescape").split("\n"):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        keyword, _, rest = text.replace("\t", " ").partition(" ")
        if "=" in keyword:
            keyword, _, more = text.partition("=")
            rest = more
        found.append([keyword.strip().lower(), *_words(rest.strip().removeprefix("=").strip())])
    return found


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return text.split()


def read_sshd(lines: Iterable[list[str]]) -> Sshd:
    """The settings outside of `Match` blocks. The first value of a keyword counts."""
    first: dict[str, Sequence[str]] = {}
    ports: list[int] = []
    places: list[str] = []
    conditional = False
    for keyword, *values in lines:
        if keyword == "match":
            conditional = values[:1] != ["all"]
        elif conditional or not values:
            continue
        elif keyword == "port" and _PORT.fullmatch(values[0]):
            ports.append(int(values[0]))
        elif keyword == "listenaddress":
            places.append(shown(values[0]))
        else:
            first.setdefault(keyword, values)
    return Sshd(
        tuple(ports[:100]) or (22,),
        tuple(places[:100]),
        _first(first, "permitrootlogin", "prohibit-password"),
        _first(first, "passwordauthentication", "yes"),
        _first(first, "permitemptypasswords", "no"),
        tuple(first.get("authorizedkeysfile", KEYS_FILES)[:10]),
        _first(first, "authorizedkeyscommand", "none").removeprefix("none"),
        conditional,
    )


def harmless(sshd: Sshd) -> Sshd:
    """The settings in printable form."""
    return replace(sshd, keys_files=tuple(map(shown, sshd.keys_files)))


def keys_paths(files: Iterable[str], user: str, home: str) -> list[str]:
    """The files of a user's keys, by `AuthorizedKeysFile` (sshd_config(5))."""
    known = {"%%": "%", "%u": user, "%h": home}
    words = [re.sub("%[%uh]", lambda match: known[match[0]], file) for file in files if file != "none"]
    return [word if word.startswith("/") else f"{home}/{word}" for word in words]


def addresses(sshd: Sshd) -> list[str]:
    """Where sshd listens: addresses without a port are combined with each port."""
    if not sshd.addresses:
        return [str(port) for port in sshd.ports]
    own = re.compile(r"\[.*\]:[0-9]+|[^:]*:[0-9]+")
    return [
        address
        if own.fullmatch(address)
        else f"[{address}]:{port}"
        if address.count(":") > 1 and "[" not in address
        else f"{address}:{port}"
        for address in sshd.addresses
        for port in (sshd.ports[:1] if own.fullmatch(address) else sshd.ports)
    ]


def _first(values: Mapping[str, Sequence[str]], keyword: str, default: str) -> str:
    return shown(values[keyword][0].lower()) if keyword in values else default
