"""The run steps of a recipe, in a real machine of an image so far."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dayfly import settings as site_settings
from dayfly.errors import DayflyError, MachineFailed
from dayfly.guest.initramfs import agent_archive
from dayfly.image.inspection.erofs import Erofs
from dayfly.image.inspection.tree import Tree
from dayfly.image.library import Library, Source
from dayfly.image.manifest import Role
from dayfly.image.reference import parse as reference
from dayfly.image.work import work_folder
from dayfly.imagebuild import capture, steps
from dayfly.imagebuild.containerimage.rootfs import Root
from dayfly.imagebuild.context import BuildContext
from dayfly.imagebuild.namespace import enter
from dayfly.imagebuild.recipe import Recipe, RecipeMachine, parse
from dayfly.machine.config import Network
from dayfly.policy.rules import Denied
from dayfly.provision import capture as captured
from dayfly.settings import Settings
from tests.framework.hostile import boot_modules, compiled, hostile_image
from tests.framework.site import Site
from tests.machine.test_capture import small

__all__ = ["small"]
TEXT = """
name = "stepped:1"
distribution = "debian"
release = "bookworm"
date = 2026-01-01
run = [%s]
[kernel]
release = "bookworm"
[environment]
GREETING = "hello"
"""


def recipe(*scripts: str) -> Recipe:
    return parse((TEXT % ", ".join(f"'''{script}'''" for script in scripts)).encode(), Path("r.toml"))


def perform(site: Site, wanted: Recipe, image: str = "small:1") -> tuple[Tree, Root, list[str], str]:
    """The root of an image after a recipe's steps, and what was told meanwhile."""
    told: list[str] = []
    settings = loaded(site)
    library = Library(site.work / "library")
    with library.open(reference(image)) as opened, work_folder(library.layout) as work:
        layers = {Role.ROOT: Source(opened.root.form, opened.root.path), **capture.kernel_of(opened)}
        context = BuildContext(settings, work, enter(work, settings.scratch_folder), told.append, wanted.date)
        made = steps.perform(context, wanted, opened.config, layers)
        file = os.open(made.path, os.O_RDONLY)
        dumped = subprocess.run(["dump.erofs", "--path=/etc/second", made.path], capture_output=True, text=True, check=False)
    return Tree(Erofs(file)), made, told, dumped.stdout


def loaded(site: Site) -> Settings:
    return site_settings.load(user_file=site.settings_file)


def test_steps_in_their_order(small: Site) -> None:
    wanted = recipe(
        "echo $GREETING > /etc/first; echo out; echo err >&2; cat; echo $HOME $PWD; sleep 600 &",
        "cat /etc/first; rm /etc/first; echo last > /etc/second; touch /tmp/left; ls /sys/class/net",
    )
    root, made, told, times = perform(small, wanted)
    lines = [line for line in told if line.startswith("run ")]
    assert lines == ["run 1: out", "run 1: err", "run 1: /root /", "run 2: hello", "run 2: lo"]
    assert root.read("/etc/second", 100, "test") == b"last\n"
    assert not root.has("/etc/first")
    assert not root.has("/tmp/left")
    assert "2026-01-01 00:00:00" in times
    assert made.size > 0


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo one; echo two >&2; exit 7", "run step 2 of 3 exited with 7\n  | one\n  | two"),
        ("false; echo not reached", "run step 2 of 3 exited with 1"),
        ("echo said; kill -9 $$", "run step 2 of 3 died of signal 9\n  | said"),
        ("no-such-command", "run step 2 of 3 exited with 127\n  | /bin/sh: no-such-command: not found"),
    ],
)
def test_a_step_that_fails(small: Site, script: str, told: str) -> None:
    with pytest.raises(DayflyError) as failed:
        perform(small, recipe("true", script, "true"))
    assert str(failed.value).replace("sh: line 0: ", "/bin/sh: ") == told


def test_a_policy_that_denies_it(small: Site) -> None:
    (small.work / "policy.toml").write_text('[[rule]]\naction = "allow"\nlimits = { network = "none" }\n')
    wanted = replace(recipe("true"), machine=RecipeMachine(Network.NAT))
    with pytest.raises(Denied, match="the network nat"):
        perform(small, wanted)


def test_a_machine_that_is_silent(importing: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it should go on after a step: it is given up."""
    monkeypatch.setattr(captured, "PATIENCE", 2.0)
    program = compiled(importing.work, "hello(3); stage(1); stage(2); wait_for(0x41); started(); end(1); exited();")
    reachable = f"/var/tmp/dayfly-test-{os.getpid()}"
    hostile_image(importing, "hostile", boot_modules(importing) + agent_archive(program), scratch_folder=reachable)
    with pytest.raises(MachineFailed, match="was not ready for another job within 2 s"):
        perform(importing, recipe("true", "true"), "hostile")


def test_a_machine_without_end(importing: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may write as much as an archive may have, whatever it is granted."""
    monkeypatch.setattr(captured, "LIMIT", 8 << 20)
    program = compiled(
        importing.work,
        "hello(3); stage(1); stage(2); wait_for(0x41); started(); end(1); exited(); wait_for(0x4a); stage(2); wait_for(0x41); "
        "started(); for (;;) { frame(5, 1, 0, sizeof room); put(room, sizeof room); }",
    )
    reachable = f"/var/tmp/dayfly-test-{os.getpid()}"
    hostile_image(importing, "hostile", boot_modules(importing) + agent_archive(program), scratch_folder=reachable)
    with pytest.raises(MachineFailed, match="its files are larger than the limit of 8 MiB"):
        perform(importing, recipe("true"), "hostile")
    assert not list((importing.work / "library/.dayfly/work").glob("[0-9a-f]*"))


def test_a_machine_that_goes_on_and_on(importing: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then is not silence, but all of it has a time too."""
    monkeypatch.setattr(captured, "LONGEST", 2.0)
    program = compiled(
        importing.work,
        "hello(3); stage(1); stage(2); wait_for(0x41); started(); end(1); exited(); wait_for(0x4a); stage(2); wait_for(0x41); "
        'started(); for (;;) { frame(5, 1, 0, 1); put("x", 1); usleep(100000); }',
    )
    reachable = f"/var/tmp/dayfly-test-{os.getpid()}"
    hostile_image(importing, "hostile", boot_modules(importing) + agent_archive(program), scratch_folder=reachable)
    with pytest.raises(MachineFailed, match=r"its files were not complete after 2\.00 s"):
        perform(importing, recipe("true"), "hostile")
