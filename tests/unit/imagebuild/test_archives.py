"""Which archive an image is built from."""

from __future__ import annotations

import pytest

from dayfly.errors import NotFound
from dayfly.imagebuild.archives import (
    DISTRIBUTIONS,
    Archive,
    Suite,
    choose,
    image_source_lines,
    parse_options,
    parse_targets,
    source_lines,
    suites,
)

DEBIAN, UBUNTU = DISTRIBUTIONS["debian"], DISTRIBUTIONS["ubuntu"]
KEYRING = DEBIAN.keyring
CONFIGURED = """\
Google\tcloud\tsdk\tmain\thttp://packages.example.com/apt/\t$(SIGNED_BY)
Debian\tDebian-Security\tbookworm-security\tmain\thttp://mirror.example/debian-security/\t$(SIGNED_BY)
Debian\tDebian\tbookworm\tmain\thttp://mirror.example/debian/\t/etc/apt/keyrings/site.gpg
Debian\tDebian\tbookworm-updates\tmain\thttp://mirror.example/debian/\t$(SIGNED_BY)
nonsense
"""
WITHOUT_LISTS = """\
$(ORIGIN)\t$(LABEL)\t$(CODENAME)\tmain\thttp://mirror.example/debian/\t$(SIGNED_BY)
$(ORIGIN)\t$(LABEL)\t$(CODENAME)\tmain\thttp://mirror.example/debian-security/\t$(SIGNED_BY)
"""


def test_the_archive_is_the_one_that_apt_uses() -> None:
    assert choose(parse_targets(CONFIGURED), DEBIAN, "") == Archive(
        "http://mirror.example/debian", "http://mirror.example/debian-security", "/etc/apt/keyrings/site.gpg"
    )


def test_it_is_found_also_where_the_lists_were_never_fetched() -> None:
    found = choose(parse_targets(WITHOUT_LISTS), DEBIAN, "")
    assert found == Archive("http://mirror.example/debian", "http://mirror.example/debian-security", KEYRING)


def test_an_archive_that_is_all_in_one_has_its_security_suite_there() -> None:
    line = "Ubuntu\tUbuntu\tnoble\tmain\thttp://mirror.example/ubuntu/\t$(SIGNED_BY)\n"
    assert choose(parse_targets(line), UBUNTU, "") == Archive(
        "http://mirror.example/ubuntu", "http://mirror.example/ubuntu", UBUNTU.keyring
    )


def test_the_settings_mirror_goes_first() -> None:
    found = choose(parse_targets(CONFIGURED), DEBIAN, "https://near.example/debian/")
    assert found == Archive("https://near.example/debian", "https://near.example/debian-security", KEYRING)
    assert choose([], UBUNTU, "https://near.example/ubuntu").security == "https://near.example/ubuntu"


def test_a_distribution_that_apt_does_not_know_is_not_found() -> None:
    with pytest.raises(NotFound, match="has no archive of Ubuntu configured") as caught:
        choose(parse_targets(CONFIGURED), UBUNTU, "")
    assert "build.mirror" in caught.value.hint


def test_the_release_itself_is_required_and_its_updates_are_not() -> None:
    archive = Archive("http://a/debian", "http://a/debian-security", KEYRING)
    assert suites(archive, "trixie") == [
        (Suite("http://a/debian", "trixie"), True),
        (Suite("http://a/debian", "trixie-updates"), False),
        (Suite("http://a/debian-security", "trixie-security"), False),
    ]


def test_the_image_keeps_its_archive_and_no_password() -> None:
    found = [Suite("http://mirror.example/debian", "bookworm"), Suite("http://mirror.example/sec", "bookworm-security")]
    assert source_lines(found, ["main", "contrib"], KEYRING)[0] == (
        f"deb [signed-by={KEYRING}] http://mirror.example/debian bookworm main contrib"
    )
    secret = [Suite("http://me:secret@mirror.example/debian", "bookworm"), found[1]]
    assert image_source_lines(secret, ["main"]) == [
        "deb http://mirror.example/debian bookworm main",
        "deb http://mirror.example/sec bookworm-security main",
    ]


def test_only_what_concerns_fetching_is_passed_on() -> None:
    text = 'Acquire::http::Proxy=http://proxy:3128\nAcquire::Check-Date=false\nDPkg::Post-Invoke=rm\nAcquire::Retries=\nAcquire::https::Proxy=a"b\n'
    assert parse_options(text) == ['Acquire::http::Proxy "http://proxy:3128";', 'Acquire::Check-Date "false";']
