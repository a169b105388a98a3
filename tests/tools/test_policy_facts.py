"""Every fact that a policy may go by: who can write it, and that what a user wrote allows nothing by a policy of the site's.

In a real library of a user's, with the user's own keys and lists. A new field of the facts fails here until it has a line below.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
from tests.framework.authority import Authority
from tests.framework.image_lists import World
from tests.tools.test_cosign import attach, key_pair, payload, signature
from tests.unit.image.examples import CONFIG, LAYERS

from dayfly import principal
from dayfly import settings as site
from dayfly.cli import main
from dayfly.errors import Corrupt
from dayfly.image.library import Library, OpenImage
from dayfly.image.origin import Origin
from dayfly.image.reference import LibraryKind, Name, parse
from dayfly.image.trust import cosign
from dayfly.policy import permission
from dayfly.policy.rules import Caller, Conditions, Denied, Image, MachineRequest
from dayfly.settings import Settings
from dayfly.values import replace

WISH = MachineRequest("none", 1, 512 << 20)
ME = str(os.getuid())
WRITERS = {
    "users": "the kernel, and the host's users",
    "groups": "the kernel, and the host's groups",
    "account": "whoever submits the job, unless the batch system checks accounts",
    "library": "the owner of the library's folder",
    "names": "whoever can write to the library",
    "digest": "the image's content: whoever can write to the library may change it, so that a copy is compared and run",
    "origins": "whoever can write to the library",
    "endorsers": "whoever can write to the library",
    "labels": "whoever made the image",
}
"""Who can write each fact of a caller and of an image."""
CONDITIONS = {
    "user": "users",
    "group": "groups",
    "account": "account",
    "library": "library",
    "image": "names",
    "digest": "digest",
    "endorser": "endorsers",
    "origin": "origins",
    "label": "labels",
}
"""Which fact each condition asks for."""


def test_every_fact_and_every_condition_is_classified() -> None:
    assert [field.name for kind in (Caller, Image) for field in fields(kind)] == list(WRITERS)
    assert [field.name for field in fields(Conditions)] == list(CONDITIONS)
    assert set(CONDITIONS.values()) == set(WRITERS)


@dataclass
class Host:
    """A site's library and a user's, and what the policy says of an image of the user's."""

    folder: Path
    settings: Settings
    system: Library
    user: Library
    account: str = ""
    checked: str = ""

    def add(self, library: Library, name: str = "mine:1", origin: str = "") -> str:
        config = replace(CONFIG, labels={"org.example.checked": "yes"})
        image, _, tag = name.partition(":")
        annotations = Origin.now(origin, "").annotations() if origin else None
        return library.add(config, LAYERS, Name(image, tag), annotations)

    def permits(self, rules: str, name: str = "mine:1", library: Library | None = None, *, own_policy: bool = False) -> str:
        """Why not; empty where it is allowed. The policy is the site's, or one of the user's own beside one that allows all."""
        path = self.folder / "policy.toml"
        path.write_text(rules)
        path.chmod(0o644)
        everything = self.folder / "everything.toml"
        everything.write_text('[[rule]]\naction = "allow"\n')
        everything.chmod(0o644)
        settings = replace(
            self.settings, policy_system=everything if own_policy else path, policy_user=path if own_policy else None
        )
        with (library or self.user).open(parse(name)) as image:
            try:
                permission.permit(image, settings, principal.current(), WISH, self.account, self.checked)
            except Denied as denied:
                return str(denied)
        return ""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    (tmp_path / "settings.toml").write_text(f'[library]\nuser = "{tmp_path}/user"\n')
    monkeypatch.setenv("DAYFLY_SETTINGS", str(tmp_path / "settings.toml"))
    read = permission.read
    monkeypatch.setattr(permission, "read", lambda path, owners: read(path, owners and {*owners, os.getuid()}))
    system = Library(tmp_path / "system", LibraryKind.SYSTEM)
    system.create()
    (tmp_path / "scratch").mkdir()
    settings = Settings(library_system=tmp_path / "system", library_user=tmp_path / "user", scratch_folder=tmp_path / "scratch")
    return Host(tmp_path, settings, system, Library(tmp_path / "user"))


def allow(conditions: str) -> str:
    return f'[[rule]]\naction = "allow"\n{conditions}\n'


def by_a_key_of_the_users(host: Host) -> str:
    """The user believes a key under the name of the site's, signs with it, and has Dayfly note that."""
    digest = host.add(host.user)
    key, public = key_pair(host.folder, "users")
    assert main(["trust", "add-key", "site", str(public)]) == 0
    cosign.sign(host.user, digest, "mine:1", key)
    assert cosign.verify(host.user, digest) == ["key:site"]
    return allow('endorser = "key:site"')


def by_a_list_of_the_users(host: Host) -> str:
    """The user's own authority certifies the site's expert, and a list under the site's identifier names the image."""
    authority = Authority(host.folder / "authority", "Own CA")
    (host.folder / "published").mkdir()
    world = World(host.folder, authority, authority.endorser("Ada"), host.user, Library(host.folder / "source"))
    world.offer(world.ada.sign(world.list(world.image("mine:1", 1))))
    assert world.subscribe() == 0
    return allow(f'endorser = "{world.ada.name}"\norigin = "list:the-list"')


def plain(conditions: str, origin: str = "") -> Callable[[Host], str]:
    def made(host: Host) -> str:
        digest = host.add(host.user, origin=origin)
        return allow(conditions.format(digest=digest, user=ME))

    return made


def by_an_account(host: Host) -> str:
    host.account = "rich"
    return plain('account = "rich"')(host)


WRITTEN: dict[str, list[Callable[[Host], str]]] = {
    "account": [by_an_account],
    "image": [plain('image = "user/mine:*"'), plain('image = "*/mine:1"'), plain('image = "user/m*"')],
    "endorser": [by_a_key_of_the_users, by_a_list_of_the_users],
    "origin": [
        plain('origin = "local"'),
        plain('origin = "*"'),
        plain('origin = "docker://registry.example.org/*"', "docker://registry.example.org/app:1"),
        by_a_list_of_the_users,
    ],
    "label": [plain('label = {{ "org.example.checked" = "yes" }}')],
}
"""What a user can write, by the condition that asks for it. A list is in two lines: it is an endorser, and an origin."""
NOT_WRITTEN = {
    "user": 'user = "{user}"',
    "group": 'group = "*"',
    "library": 'library = "own"',
    "image": 'image = "user/*"',
    "digest": 'digest = "{digest}"',
}
"""What holds of an image of a user's own all the same. A pattern for all names of the library says no more than `library`."""


@pytest.mark.parametrize(("condition", "number"), [(name, number) for name in WRITTEN for number in range(len(WRITTEN[name]))])
def test_what_a_user_wrote_does_not_satisfy_an_allow_of_the_sites(host: Host, condition: str, number: int) -> None:
    rules = WRITTEN[condition][number](host)
    denied = host.permits(rules)
    assert denied.startswith("the policy does not allow this: no rule is about the user ")
    assert "the rule at line 1 of" in denied
    assert "is, but only by facts that a user could have written" in denied
    assert host.permits(rules.replace('"allow"', '"deny"') + allow("")) != ""  # it speaks against the user
    assert host.permits(rules, own_policy=True) == ""  # the user's own policy goes by the user's own facts


def test_what_the_site_knows_of_an_image_of_a_users_denies_too(host: Host) -> None:
    signed_by_the_site(host)
    denies = allow('endorser = "key:site"\nlabel = { "org.example.checked" = "yes" }').replace("allow", "deny") + allow("")
    assert host.permits(denies).startswith("the policy does not allow this: a rule denies it")


@pytest.mark.parametrize("condition", NOT_WRITTEN)
def test_what_a_user_cannot_write_does(host: Host, condition: str) -> None:
    assert host.permits(plain(NOT_WRITTEN[condition])(host)) == ""


def test_every_condition_was_asked() -> None:
    assert set(WRITTEN) | set(NOT_WRITTEN) == set(CONDITIONS)


def test_all_of_it_holds_of_an_image_of_the_sites(host: Host) -> None:
    """There the site wrote it."""
    digest = host.add(host.system, "debian:12", "docker://registry.example.org/debian:12")
    for conditions in (
        'image = "debian:*"',
        'library = "system"',
        f'digest = "{digest}"',
        'label = { "org.example.checked" = "yes" }',
        'origin = "docker://registry.example.org/*"',
    ):
        assert host.permits(allow(conditions), "debian:12", host.system) == "", conditions


def test_an_account_counts_where_the_batch_system_checks_accounts(host: Host) -> None:
    host.add(host.user)
    host.account, host.checked = "rich", "poor"
    host.settings = replace(host.settings, batch_checked_accounts=True)
    assert host.permits(allow('account = "rich"')) != ""
    assert host.permits(allow('account = "poor"')) == ""


def signed_by_the_site(host: Host) -> str:
    """An image in the user's library, with a signature by a key that the system library believes."""
    digest = host.add(host.user)
    key, public = key_pair(host.folder, "sites")
    cosign.add_key(host.system, "site", public)
    content = payload(digest)
    attach_to(host, digest, content, signature(key, content))
    return digest


def attach_to(host: Host, digest: str, content: bytes, signed: bytes) -> None:
    host.user.tag(parse("mine:1"), Name("debian", "12"))  # the name by which `attach` finds it
    attach(host.user, (content, signed))


def test_a_signature_by_a_key_of_the_sites_counts_in_a_library_of_the_users(host: Host) -> None:
    """It is held against the site's key itself: what the user's library noted, and whom it believes, does not matter."""
    signed_by_the_site(host)
    assert host.permits(allow('endorser = "key:site"')) == ""
    assert main(["trust", "add-key", "site", str(key_pair(host.folder, "users")[1])]) == 0
    assert host.permits(allow('endorser = "key:site"')) == ""
    cosign.remove_key(host.system, "site")
    assert "no rule is about" in host.permits(allow('endorser = "key:site"'))


def test_a_list_that_the_site_follows_counts_in_a_library_of_the_users(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    authority = Authority(host.folder / "authority", "Site CA")
    (host.folder / "published").mkdir()
    world = World(host.folder, authority, authority.endorser("Ada"), host.system, Library(host.folder / "source"))
    world.offer(world.ada.sign(world.list(world.image("mine:1", 1))))
    (host.folder / "settings.toml").write_text(f'[library]\nuser = "{host.folder}/system"\n')  # to subscribe for the site
    assert world.subscribe() == 0
    rules = allow(f'endorser = "{world.ada.name}"\norigin = "list:the-list"')
    digest = host.user.add(CONFIG, {**LAYERS}, Name("other", "1"))
    assert host.permits(rules, "other:1") != ""
    world.source.layout.folder.rename(host.folder / "user.of.ada")
    copy = Library(host.folder / "user.of.ada")
    host.settings = replace(host.settings, library_user=copy.layout.folder)
    assert digest not in {entry.descriptor.digest for entry in copy.index().entries}
    assert host.permits(rules, "mine:1", copy) == ""
    assert main(["trust", "remove", "site"]) == 0
    assert host.permits(rules, "mine:1", copy) != ""


def content_of(image: OpenImage) -> list[bytes]:
    return [os.pread(blob.file, 1 << 20, 0) for blob in image.blobs]


def forge(host: Host, name: str) -> None:
    """Change a blob of the user's library, and note it as checked: its owner can write both."""
    blob = next(path for path in host.user.layout.blobs.iterdir() if path.read_bytes().startswith(b"the root"))
    blob.write_bytes(b"evil" + blob.read_bytes()[4:])
    from dayfly.image import blobs  # noqa: PLC0415

    with blob.open("rb") as file:
        blobs.record(host.user.layout, f"sha256:{blob.name}", file.fileno())


@pytest.mark.parametrize("conditions", ['digest = "{digest}"', 'endorser = "key:site"'])
def test_an_image_that_is_allowed_for_what_it_is_is_that(host: Host, conditions: str) -> None:
    """The file's owner can change it after the policy was asked, and while the job runs."""
    digest = signed_by_the_site(host)
    path = host.folder / "policy.toml"
    path.write_text(allow(conditions.format(digest=digest)))
    path.chmod(0o644)
    settings = replace(host.settings, policy_system=path)
    with host.user.open(parse("mine:1")) as image:
        before = content_of(image)
        permission.permit(image, settings, principal.current(), WISH)
        forge(host, "mine:1")
        assert content_of(image) == before
        assert all(os.fstat(blob.file).st_nlink == 0 for blob in image.blobs)
    with host.user.open(parse("mine:1")) as image:  # the library believes its note
        assert content_of(image) != before
        with pytest.raises(Corrupt, match="does not match its digest"):
            permission.permit(image, settings, principal.current(), WISH)


def test_check_names_the_facts_and_their_sources(
    host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    signed_by_the_site(host)
    monkeypatch.setattr(site, "Settings", lambda **_: host.settings)
    path = host.folder / "policy.toml"
    path.write_text(allow('label = { "org.example.checked" = "yes" }') + allow(f'endorser = "key:site"\nuser = "{ME}"'))
    words = ["policy", "check", "--file", str(path), "--image", "user/mine:1"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "because: endorser key:site (source: the lists and keys of the system library)\n" in out
    assert f"because: user {ME} (source: the users and groups of this host)\n" in out
    assert "does not count: label org.example.checked=yes (source: the image, in the user's library)\n" in out
    assert main([*words, "--json"]) == 0
    (decision,) = json.loads(capsys.readouterr().out)["decisions"]
    facts = {(fact["condition"], fact["counts"], fact["used"]) for fact in decision["facts"]}
    assert {("endorser", True, True), ("label", False, False), ("user", True, True)} <= facts
