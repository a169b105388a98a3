"""Jobs from images that came by a signed list: they run as long as the list holds, however warm their templates are."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.framework.authority import Authority, Endorser
from tests.framework.site import IMAGE, Site, eventually
from tests.framework.site_files import site_policy, site_settings


class Listed:
    """A site whose library is empty at first, and somebody who publishes what the tests' library has."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site, self.folder = site, folder
        self.authority = Authority(folder / "authority", "CA")
        self.ada: Endorser = self.authority.endorser("Ada")
        self.source = site.library

    def publish(self, version: int, *words: str, image: str = IMAGE) -> None:
        self.site.configure(library_user=str(self.source))
        out = self.folder / "published"
        signer = ("--cert", str(self.ada.certificate), "--key", str(self.ada.key), "--version", str(version))
        options = ("--out", str(out), "--uri", f"file://{out}", "--identifier", "tests", *signer, *words)
        done = self.site.dayfly("trust", "publish", image, *options)
        assert done.status == 0, done.err
        self.site.configure(library_user=str(self.site.work / "library"))

    def subscribe(self) -> None:
        words = ("--ca", str(self.authority.certificate), "--crl", str(self.authority.crl), "--endorser", self.ada.name)
        done = self.site.dayfly("trust", "subscribe", str(self.folder / "published/images.smime"), *words)
        assert done.status == 0, done.err

    def update(self) -> None:
        done = self.site.dayfly("trust", "update")
        assert done.status == 0, done.err


@pytest.fixture
def listed(site: Site, tmp_path: Path) -> Listed:
    """A site that follows a list with debian:12, from which a job has run."""
    listed = Listed(site, tmp_path / "listed")
    listed.publish(1)
    listed.subscribe()
    finished = site.run("echo", "fine")
    assert (finished.status, finished.out) == (0, b"fine\n"), finished.err
    assert site.run("true").status == 0
    record = site.record()
    assert record["machine"]["start"] == "template"
    assert (record["image"]["origin"], record["image"]["endorser"]) == ("list:tests", listed.ada.name)
    return listed


def test_an_image_whose_list_has_expired_is_not_run_although_its_template_is_warm(listed: Listed) -> None:
    site, records = listed.site, len(listed.site.records())
    listed.publish(2, "--expires", "6s")
    listed.update()
    (known,) = json.loads(site.dayfly("trust", "list", "--json").out)["lists"]
    eventually(lambda: time.time() >= known["until"])
    refused = site.run("echo", "fine")
    assert (refused.status, refused.out) == (125, b"")
    assert refused.err.startswith("dayfly: debian:12 may not be run: the list 'images' expired on ")
    assert refused.err.count("\n") == 1
    assert len(site.records()) == records
    assert site.dayfly("template", "build", IMAGE).err == refused.err
    listed.publish(3)
    listed.update()
    assert site.run("echo", "fine").out == b"fine\n"


def test_an_image_whose_endorser_is_revoked_is_not_run(listed: Listed) -> None:
    listed.authority.revoke(listed.ada)
    refused = listed.site.run("echo", "fine")
    assert refused.status == 125
    assert refused.err.startswith("dayfly: debian:12 may not be run: the list 'images' is not trusted any more: ")
    assert "certificate revoked" in refused.err
    shown = json.loads(listed.site.dayfly("image", "show", "debian:12", "--json").out)
    assert "certificate revoked" in shown["problem"]
    findings = {finding["check"]: finding for finding in json.loads(listed.site.dayfly("doctor", "--json").out)}
    assert findings["image lists"]["health"] == "warning"
    assert "certificate revoked" in findings["image lists"]["found"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have another /etc")
def test_a_policy_may_ask_for_an_endorser(listed: Listed) -> None:
    """Of a list that the system library follows. The image is run from the user's library, as a copy that nobody can change."""
    site = listed.site
    text = '[[rule]]\naction = "allow"\nendorser = "/C=CH/O=Test/CN=Ada"\norigin = "list:tests"\n'
    before = site_policy(site, text)
    assert "is, but only by facts that a user could have written" in site.run("true", before=before).err
    before = site_settings(site, f'[library]\nsystem = "{site.work}/library"\n')
    site.configure(
        library_user=str(site.work / "library"),
        **dict.fromkeys(("machine_qemu", "machine_accelerator", "scratch_folder", "scratch_size")),
    )
    finished = site.run("echo", "fine", before=before)
    assert finished.out == b"fine\n", finished.err
    assert site.run("echo", "fine", options=("--cold",), before=before).out == b"fine\n"
    site_policy(site, text.replace("Ada", "Eve"))
    assert "no rule is about" in site.run("true", before=before).err
