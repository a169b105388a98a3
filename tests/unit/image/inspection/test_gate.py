"""What a gate finds in a report."""

import pytest

from dayfly.errors import Refused
from dayfly.guest.boot import BootMode
from dayfly.image.inspection import gate
from dayfly.image.inspection.accounts import Account, Key, Password
from dayfly.image.inspection.image import Inspected
from dayfly.image.inspection.osv import Vulnerability
from dayfly.image.inspection.privileges import Capable, SetId
from dayfly.image.inspection.report import Contents, HostKey
from dayfly.image.inspection.services import Listener
from dayfly.image.inspection.tree import Unread
from dayfly.values import replace

EMPTY = Contents({}, (), (), (), (), (), (), (), None, (), None, ())
IMAGE = Inspected(
    "x", "user", "sha256:0", "2026-01-01T00:00:00Z", 90, BootMode.SYSTEM, "6.1", 1, 1, ("local",), ("key:a",), "", EMPTY
)
FULL = replace(
    EMPTY,
    accounts=(Account("root", 0, 0, "/root", "/bin/sh", Password.EMPTY), Account("a", 1, 1, "/", "/bin/sh", Password.NONE)),
    keys=(Key("root", "/k", "ssh-rsa", "SHA256:x"),),
    setid=(SetId("/s", "4755", 0, 0),),
    capabilities=(Capable("/c", ("cap_chown",)),),
    listeners=(Listener("a.socket", "stream", "22", True), Listener("b.socket", "stream", "/run/b", False)),
    host_keys=(HostKey("/h", 5),),
    vulnerabilities=(Vulnerability("CVE-1", (), "p", "1", "", ""),),
)


def reasons(image: Inspected, text: str) -> list[str]:
    return [failure.why for failure in gate.judge(image, gate.parse(text))]


def test_nothing_is_found_in_what_has_nothing() -> None:
    assert reasons(IMAGE, ",".join(kind for kind in gate.Kind if kind != "age") + ",age>90") == []


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("passwords", "root needs no password"),
        ("keys", "/k: ssh-rsa SHA256:x allows login as root"),
        ("setuid", "/s has the mode 4755"),
        ("capabilities", "/c has cap_chown"),
        ("listening", "a.socket listens on 22"),
        ("host-keys", "/h is in the image"),
        ("vulnerable", "p 1 has CVE-1"),
        ("unsigned", "no trusted key or list has signed it"),
        ("stopped", "because"),
        ("age>89", "it is 90 days old"),
    ],
)
def test_each_kind(kind: str, why: str) -> None:
    assert reasons(replace(IMAGE, contents=FULL, endorsers=(), stopped="because"), kind) == [why]


def test_nothing_listens_where_the_agent_is_the_init() -> None:
    assert reasons(replace(IMAGE, contents=FULL, boot=BootMode.AGENT), "listening") == []


def test_what_was_not_read_fails_where_it_matters() -> None:
    image = replace(IMAGE, contents=replace(EMPTY, unread=(Unread("packages", "/var/lib/rpm", "not read"),)))
    assert reasons(image, "vulnerable") == ["/var/lib/rpm could not be read: not read"]
    assert reasons(image, "passwords,listening,setuid") == []


@pytest.mark.parametrize("text", ["", "rubbish", "age", "age>", "age>-1", "passwords,", "age>9999999"])
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(Refused, match="not a condition"):
        gate.parse(text)


def test_conditions() -> None:
    assert [str(one) for one in gate.parse("age>30, setuid,age>30")] == ["age>30", "setuid"]
