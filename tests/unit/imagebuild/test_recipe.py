"""Recipes: what they say, and every error in them."""

from __future__ import annotations

import base64
import tomllib
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.errors import FileErrors, NotFound
from dayfly.guest.boot import BootMode
from dayfly.image.reference import Name
from dayfly.imagebuild import rpm
from dayfly.imagebuild.recipe import Recipe, RecipeFile, RecipeMachine, RecipeUser, Repository, find, load, parse, shipped
from dayfly.machine.config import Network, Share

PATH = Path("somewhere/recipe.toml")
HEAD = """
name = "el:test"
distribution = "debian"
release = "bookworm"
date = 2026-01-31
[kernel]
release = "bookworm"
"""
FULL = """
name = "site:1"
distribution = "debian"
release = "trixie"
variant = "apt"
components = ["main", "contrib"]
packages = ["gcc", "libstdc++-13-dev", "python3=3.11.2-1+b1"]
boot = "system"
default_user = "worker"
date = 2026-01-31T12:00:00+01:00

[kernel]
release = "bookworm"
command_line = "quiet"

[[files]]
path = "/etc/motd"
content = "hello\\n"

[[files]]
path = "/usr/local/bin/tool"
source = "tool.sh"
mode = "0755"
owner = "worker:staff"

[[users]]
name = "worker"
uid = 1000
groups = ["staff", "cdrom"]

[[users]]
name = "second"
uid = 1001
gid = 100
home = "/srv/second"
shell = "/bin/sh"

[environment]
LANG = "C.UTF-8"

[labels]
"org.example.note" = "for tests"
"""


def test_a_recipe_says_everything(tmp_path: Path) -> None:
    (tmp_path / "tool.sh").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "recipe.toml").write_text(FULL)
    recipe = load(tmp_path / "recipe.toml")
    assert recipe == Recipe(
        name=Name("site", "1"),
        distribution="debian",
        release="trixie",
        date=1769857200,
        packages=("gcc", "libstdc++-13-dev", "python3=3.11.2-1+b1", "systemd-sysv", "udev", "kmod", "dbus"),
        variant="apt",
        components=("main", "contrib"),
        boot=BootMode.SYSTEM,
        kernel="bookworm",
        command_line="quiet",
        default_user="worker",
        files=(
            RecipeFile("/etc/motd", b"hello\n"),
            RecipeFile("/usr/local/bin/tool", b"#!/bin/sh\n", 0o755, "worker", "staff"),
        ),
        users=(
            RecipeUser("worker", 1000, 1000, "/home/worker", "/bin/bash", ("staff", "cdrom")),
            RecipeUser("second", 1001, 100, "/srv/second", "/bin/sh"),
        ),
        environment={"LANG": "C.UTF-8"},
        labels={"org.example.note": "for tests"},
    )
    assert recipe.created == "2026-01-31T11:00:00Z"


def test_a_minimal_recipe_has_defaults() -> None:
    recipe = parse(HEAD.encode(), PATH)
    assert (recipe.packages, recipe.variant, recipe.boot, recipe.components) == ((), "minbase", BootMode.AGENT, ("main",))


@pytest.mark.parametrize(
    ("said", "got"),
    [
        ([], ("systemd-sysv", "udev", "kmod", "dbus")),
        (["systemd-sysv"], ("systemd-sysv", "udev", "kmod", "dbus")),
        (["udev=252.39-1", "cron"], ("udev=252.39-1", "cron", "systemd-sysv", "kmod", "dbus")),
    ],
)
def test_an_image_with_its_own_init_gets_what_a_system_needs(said: list[str], got: tuple[str, ...]) -> None:
    """Without udev, devices have not Debian's owners and modes; what is asked for already is not asked for twice."""
    text = HEAD.replace("[kernel]", f'packages = {said}\nboot = "system"\n[kernel]')
    assert parse(text.encode(), PATH).packages == got


def test_an_rpm_system_without_udev_is_refused_in_the_machine(tmp_path: Path) -> None:
    (tmp_path / "key.asc").write_bytes(b"a key\n")
    text = RPM.replace("date =", 'boot = "system"\ndate =', 1)
    lines = [rpm.script(parse(said.encode(), tmp_path / "r.toml")) for said in (text, RPM)]
    assert ["systemd-udevd" in said for said in lines] == [True, False]


def test_steps_and_their_machine() -> None:
    text = 'run = [\'true\', """\nmake\nmake install""", \'true\']\n' + HEAD + "[machine]\nnetwork = 'nat'\nmemory = '2G'\n"
    recipe = parse(text.encode(), PATH)
    assert recipe.run == ("true", "make\nmake install", "true")
    assert recipe.machine == RecipeMachine(Network.NAT, memory=2 << 30, scratch=0)
    digests = {
        parse(changed.encode(), PATH).digest for changed in (HEAD, text, text.replace("2G", "3G"), text.replace("nat", "none"))
    }
    assert len(digests) == 4


def test_a_recipe_without_steps_keeps_the_digest_that_it_had_before_there_were_any() -> None:
    assert parse(HEAD.encode(), PATH).digest == "sha256:6f45222357b76b1ad5bbede562d4f13e2776ee0b278512afe304f89d9b51b6c5"


RPM = """
name = "tiny:1"
distribution = "rpm"
release = "9.4"
date = 2026-01-31
packages = ["tiny-release", "NetworkManager", "python3-foo_bar-1:2.0~rc1^git-3.el9", "@core"]
[machine]
network = "nat"
[kernel]
release = "bookworm"
[[repository]]
name = "base"
url = "https://mirror.example.org/9/BaseOS/$basearch/os/"
gpgkey = "key.asc"
[[repository]]
name = "own"
url = "file:///srv/own%20packages"
gpgcheck = false
"""
RPM_MISTAKES = [
    ('release = "9.4"', 'release = "-9"', "release: cannot be '-9' (the value of $releasever, like 9)"),
    ('"@core"]', '"--nogpgcheck"]', "packages[3]: cannot be '--nogpgcheck'"),
    ('"@core"]', '"a b"]', "packages[3]: cannot be 'a b'"),
    ("date =", "variant = 'apt'\ndate =", "variant: is not for RPM distributions"),
    ("date =", "users = [{name = 'a', uid = 1}]\ndate =", "users: is not for RPM distributions (use a step of run)"),
    ("date =", "files = [{path = '/a', content = '', owner = 'daemon'}]\ndate =", "files[0].owner: is a name"),
    ('network = "nat"', 'network = "none"', "repository[0].url: needs a network (add [machine] network"),
    (
        'gpgkey = "key.asc"',
        "",
        "repository[0].gpgkey: is missing (give the key's file, next to the recipe; gpgcheck = false accepts",
    ),
    ('gpgkey = "key.asc"', 'gpgkey = "../../key.asc"', "repository[0].gpgkey: '../../key.asc' is outside of the recipe's folder"),
    ('gpgkey = "key.asc"', 'gpgkey = "none.asc"', "repository[0].gpgkey: cannot be read: No such file"),
    ("gpgcheck = false", 'gpgcheck = false\ngpgkey = "key.asc"', "repository[1].gpgkey: has no effect with gpgcheck = false"),
    ("gpgcheck = false", "gpgcheck = 'no'", "repository[1].gpgcheck: cannot be 'no' (true or false)"),
    ('name = "own"', 'name = "base"', "repository: has base twice"),
    ('name = "own"', 'name = "a]\\n[b"', "repository[1].name: cannot be"),
    ("file:///srv/own%20packages", "ftp://x/y", "repository[1].url: cannot be 'ftp://x/y'"),
    ("file:///srv/own%20packages", "file:///x\\ngpgcheck=0", "repository[1].url: cannot be"),
    ("file:///srv/own%20packages", "file:///srv/../etc", "repository[1].url: cannot be"),
    ('distribution = "rpm"', 'distribution = "debian"', "repository: is for RPM distributions only"),
]


def test_an_rpm_distribution(tmp_path: Path) -> None:
    (tmp_path / "key.asc").write_bytes(b"a key\n")
    recipe = parse(RPM.encode(), tmp_path / "r.toml")
    assert recipe.repositories == (
        Repository("base", "https://mirror.example.org/9/BaseOS/$basearch/os/", b"a key\n"),
        Repository("own", "file:///srv/own%20packages", check=False),
    )
    assert rpm.shares(recipe) == (Share("share0", "/srv/own packages", "/srv/own packages", readonly=True),)
    read = ConfigParser(interpolation=None)
    read.read_string(rpm.configuration(recipe.repositories))
    assert dict(read["base"]) == {
        "name": "base",
        "baseurl": "https://mirror.example.org/9/BaseOS/$basearch/os/",
        "gpgcheck": "1",
        "gpgkey": "file:///var/tmp/dayfly/base.key",
    }
    assert read["own"]["gpgcheck"] == "0"
    assert f"echo {base64.b64encode(b'a key' + bytes([10])).decode()} | base64 -d > /var/tmp/dayfly/base.key" in rpm.script(
        recipe
    )
    assert " --releasever=9.4 install -- tiny-release NetworkManager " in rpm.script(recipe)
    (tmp_path / "key.asc").write_bytes(b"another\n")
    assert parse(RPM.encode(), tmp_path / "r.toml").digest != recipe.digest


@pytest.mark.parametrize(("text", "instead", "told"), RPM_MISTAKES)
def test_errors_in_an_rpm_distribution(tmp_path: Path, text: str, instead: str, told: str) -> None:
    (tmp_path / "key.asc").write_bytes(b"a key\n")
    assert RPM.count(text) == 1
    with pytest.raises(FileErrors) as caught:
        parse(RPM.replace(text, instead).encode(), tmp_path / "r.toml")
    assert told in str(caught.value)


def test_the_digest_is_of_what_a_recipe_says_and_not_of_how(tmp_path: Path) -> None:
    plain = parse(HEAD.encode(), PATH)
    assert parse(HEAD.replace("\n", "\n# a comment\n").encode(), PATH).digest == plain.digest
    assert parse(HEAD.replace("2026-01-31", "2026-01-31T00:00:00Z").encode(), PATH).digest == plain.digest
    (tmp_path / "tool.sh").write_bytes(b"1")
    first = parse(FULL.encode(), tmp_path / "recipe.toml").digest
    (tmp_path / "tool.sh").write_bytes(b"2")
    assert len({plain.digest, first, parse(FULL.encode(), tmp_path / "recipe.toml").digest}) == 3


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_recipes_are_right_and_have_the_names_that_they_are_found_by(name: str) -> None:
    recipe = find(name)
    assert str(recipe.name) == name
    assert recipe.packages == tuple(sorted(recipe.packages))
    assert recipe.kernel == "bookworm"
    assert (recipe.boot is BootMode.SYSTEM) == name.endswith("-system")


def test_six_recipes_are_shipped() -> None:
    assert sorted(shipped()) == ["debian:11", "debian:12", "debian:12-system", "debian:13", "ubuntu:22.04", "ubuntu:24.04"]


def test_a_recipe_is_found_by_its_name_or_path(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(HEAD)
    assert find(str(tmp_path / "mine.toml")).name == Name("el", "test")
    with pytest.raises(NotFound, match=r"no recipe debian:99.*debian:12"):
        find("debian:99")
    with pytest.raises(FileErrors, match="cannot be read: No such file"):
        find(str(tmp_path / "none.toml"))


MISTAKES = [
    ("name", "name = 'Debian 12'", "name: 'Debian 12' names no image"),
    ("name", "", "name: is missing"),
    ("name", "name = 'sha256:12'", "name: "),
    ("distribution", "distribution = 'slackware'", "distribution: cannot be 'slackware' (one of debian, ubuntu, rpm)"),
    ("release", "release = '../x'", "release: cannot be '../x'"),
    ("release", "release = 12", "release: cannot be 12"),
    ("date", "", "date: is missing"),
    ("date", "date = 'yesterday'", "date: cannot be 'yesterday'"),
    ("date", "date = 1970-01-01", "date: cannot be in the year 1970"),
    ("date", "date = 12:00:00", "date: cannot be datetime.time"),
]
LINES = [
    ("packages = 'gcc'", "packages: is not a list"),
    ("packages = ['gcc', 'Gcc', 'a b', '-x', 'a,b', '../x', 'gcc', 7]", "packages[1]: cannot be 'Gcc'"),
    ("packages = ['gcc', 'gcc']", "packages[1]: repeats gcc"),
    ("packages = ['a,b']", "packages[0]: cannot be 'a,b'"),
    ("packages = ['--help']", "packages[0]: cannot be '--help'"),
    ("packages = ['linux-image-amd64']", "kernel.release: the package linux-image-amd64 already contains a kernel"),
    ("variant = 'custom'", "variant: cannot be 'custom' (one of essential"),
    ("components = ['main', 'non free']", "components[1]: cannot be 'non free'"),
    ("boot = 'grub'", "boot: cannot be 'grub' (one of agent, system)"),
    ("default_user = 'No Body'", "default_user: cannot be 'No Body'"),
    ("package = ['gcc']", "package: unknown field (did you mean packages?)"),
    ("files = 1", "files: is not a list of tables"),
    ("users = {name = 'x'}", "users: is not a list of tables"),
    ("environment = 3", "environment: is not a table"),
    ("run = 'make'", "run: is not a list (write run = ["),
    ("run = ['true', ' ', 7]", "run[1]: cannot be ' '"),
    ('run = ["a\\u0000b"]', "run[0]: cannot be 'a\\x00b'"),
    (f"run = {['true'] * 101}", "run: has more than 100 steps"),
    (f"run = ['{'x' * 65537}']", "run[0]: cannot be 'xxx"),
    ("machine = 3", "machine: is not a table"),
]
TABLES = [
    ("[[files]]\npath = '/a'", "files[0].content: is missing"),
    ("[[files]]\npath = '/a'\ncontent = ''\nsource = 'x'", "files[0].content: and source are both given"),
    ("[[files]]\ncontent = ''", "files[0].path: is missing"),
    ("[[files]]\npath = 'a'\ncontent = ''", "files[0].path: cannot be 'a'"),
    ("[[files]]\npath = '/a/../../b'\ncontent = ''", "files[0].path: cannot be '/a/../../b'"),
    ("[[files]]\npath = '/a/./b'\ncontent = ''", "files[0].path: cannot be '/a/./b'"),
    ("[[files]]\npath = '/a/'\ncontent = ''", "files[0].path: cannot be '/a/'"),
    ("[[files]]\npath = '/'\ncontent = ''", "files[0].path: cannot be '/'"),
    ('[[files]]\npath = "/a\\nb"\ncontent = ""', "files[0].path: cannot be"),
    ("[[files]]\npath = '/run/x'\ncontent = ''", "files[0].path: /run must be empty in an image"),
    ("[[files]]\npath = '/a'\ncontent = ''\nmode = '999'", "files[0].mode: cannot be '999'"),
    ("[[files]]\npath = '/a'\ncontent = ''\nmode = 644", "files[0].mode: cannot be 644"),
    ("[[files]]\npath = '/a'\ncontent = ''\nowner = 'root:'", "files[0].owner: cannot be 'root:'"),
    (
        "[[files]]\npath = '/a'\nsource = '../../../../../../etc/passwd'",
        "files[0].source: '../../../../../../etc/passwd' is outside",
    ),
    ("[[files]]\npath = '/a'\nsource = '/etc/passwd'", "files[0].source: '/etc/passwd' is outside of the recipe's folder"),
    ("[[files]]\npath = '/a'\nsource = 'none'", "files[0].source: cannot be read: No such file"),
    ("[[files]]\npath = '/a'\nsource = '.'", "files[0].source: cannot be read: "),
    ("[[files]]\npath = '/a'\ncontent = ''\n[[files]]\npath = '/a'\ncontent = ''", "files: has /a twice"),
    ("[[users]]\nuid = 5", "users[0].name: is missing"),
    ("[[users]]\nname = 'a'", "users[0].uid: is missing"),
    ("[[users]]\nname = 'a'\nuid = 0", "users[0].uid: cannot be 0"),
    ("[[users]]\nname = 'a'\nuid = 70000", "users[0].uid: cannot be 70000"),
    ("[[users]]\nname = 'a'\nuid = true", "users[0].uid: cannot be True"),
    ("[[users]]\nname = 'a:b'\nuid = 5", "users[0].name: cannot be 'a:b'"),
    ("[[users]]\nname = 'a'\nuid = 5\nhome = 'home'", "users[0].home: cannot be 'home'"),
    ("[[users]]\nname = 'a'\nuid = 5\nshell = '/bin/x:y'", "users[0].shell: cannot be '/bin/x:y'"),
    ("[[users]]\nname = 'a'\nuid = 5\n[[users]]\nname = 'a'\nuid = 6", "users: has a twice"),
    ("[[users]]\nname = 'a'\nuid = 5\n[[users]]\nname = 'b'\nuid = 5", "users: has 5 twice"),
    ("[environment]\n'A-B' = 'x'", "environment.A-B: is not a valid name"),
    ("[environment]\nA = 1", "environment.A: is not a line of text"),
    ('[environment]\nA = "x\\ny"', "environment.A: is not a line of text"),
    ("[labels]\na = ['x']", "labels.a: is not a line of text"),
    ("[machine]\nnetwork = 'nat'", "machine: has no effect without run"),
    ("[machine]\nnetwork = 'bridge'", "machine.network: cannot be 'bridge' (one of none, nat)"),
    ("[machine]\nmemory = 'lots'", "machine.memory: "),
    ("[machine]\nmemory = 512", "machine.memory: cannot be 512"),
    ("[machine]\ncpus = 4", "machine.cpus: unknown field"),
]


def errors(text: str) -> str:
    with pytest.raises(FileErrors) as caught:
        parse(text.encode(), PATH)
    assert str(caught.value).startswith(f"{PATH}: ")
    return str(caught.value)


@pytest.mark.parametrize(("field", "line", "message"), MISTAKES)
def test_errors_in_what_must_be_there(field: str, line: str, message: str) -> None:
    lines = HEAD.splitlines()
    position = next(number for number, text in enumerate(lines) if text.startswith(f"{field} ="))
    lines[position] = line
    assert message in errors("\n".join(lines))


@pytest.mark.parametrize(("line", "message"), LINES)
def test_errors_in_lines(line: str, message: str) -> None:
    assert message in errors(line + HEAD)


@pytest.mark.parametrize(("table", "message"), TABLES)
def test_errors_in_tables(table: str, message: str) -> None:
    assert message in errors(f"{HEAD}{table}\n")


def test_a_kernel_must_come_from_somewhere() -> None:
    head = HEAD.partition("[kernel]")[0]
    assert "kernel.release: is missing, and no package contains a kernel" in errors(head)
    assert parse(f"{head}packages = ['linux-image-cloud-amd64']\n".encode(), PATH).kernel == ""
    assert "kernel.command_line: has words that are reserved for Dayfly" in errors(HEAD + 'command_line = "dayfly.root=vda"')


def test_all_errors_are_told_at_once() -> None:
    text = "nmae = 'x'\nrelease = 3\npackages = ['A', 'b!']\n[[files]]\npath = 'x'\n[[users]]\nuid = -1\n"
    with pytest.raises(FileErrors) as caught:
        parse(text.encode(), PATH)
    places = [error.place for error in caught.value.errors]
    assert {"nmae", "name", "distribution", "release", "date", "packages[0]", "packages[1]", "kernel.release"} <= set(places)
    assert {"files[0].path", "files[0].content", "users[0].name", "users[0].uid"} <= set(places)


@pytest.mark.parametrize("content", [b"name = ", b"\xff", b"a = [" + b"[" * 5000, b"a = 1\na = 2"])
def test_what_is_not_toml_is_said(content: bytes) -> None:
    with pytest.raises(FileErrors, match="syntax: "):
        parse(content, PATH)


def test_a_recipe_that_is_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_bytes(b"#" * (1024**2 + 1))
    with pytest.raises(FileErrors, match="larger than"):
        load(tmp_path / "recipe.toml")


def test_a_link_out_of_the_recipes_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(FileErrors, match="outside of the recipe's folder"):
        parse(f"{HEAD}[[files]]\npath = '/a'\nsource = 'link'\n".encode(), tmp_path / "recipe.toml")


def _render(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_render, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_render(key)} = {_render(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(character):08x}" for character in value) + '"'
    return repr(value)


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
_values = st.recursive(
    st.booleans() | st.integers(-(2**62), 2**62) | _text | st.sampled_from(["/a/b", "root", "0644"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=6,
)
_FIELDS = ("name", "distribution", "release", "date", "packages", "variant", "components", "boot", "default_user")
_TABLES = ("kernel", "files", "users", "environment", "labels", "x")


@given(st.dictionaries(st.sampled_from([*_FIELDS, *_TABLES]), _values, max_size=4))
def test_a_recipe_with_anything_in_it_is_read_or_told_its_errors(changes: dict[str, Any]) -> None:
    base: dict[str, Any] = {"name": "a:1", "distribution": "debian", "release": "bookworm", "kernel": {"release": "bookworm"}}
    text = "".join(f"{name} = {_render(value)}\n" for name, value in {**base, **changes}.items())
    text += "" if "date" in changes else "date = 2026-01-01\n"
    tomllib.loads(text)
    try:
        recipe = parse(text.encode(), PATH)
    except FileErrors:
        return
    assert recipe.digest.startswith("sha256:")
