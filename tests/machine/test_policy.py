"""What the site's policy denies gets no machine, by whichever way it is asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.framework.site import IMAGE, Site
from tests.framework.site_files import site_file, site_policy, site_settings

USER = 4242
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else, and have another /etc")


@needs_root
def test_a_job_that_is_denied_has_no_machine_and_no_template(site: Site, own_templates: Path) -> None:
    text = '[[rule]]\naction = "allow"\nimage = "user/*"\nlimits = { network = "none", memory = "1G" }\n'
    before = site_policy(site, text)
    denied = site.run("true", options=("--network", "nat", "--memory", "2G"), before=before)
    assert denied.status == 125
    assert denied.err == (
        "dayfly: the policy does not allow this: the network nat (allowed: none); 2 GiB of memory (at most 1 GiB) "
        "(the rule at line 1 of /etc/dayfly/policy.toml)\n"
    )
    template = site.dayfly("template", "build", IMAGE, "--network", "nat", before=before)
    assert (template.status, template.err) == (125, denied.err.replace("; 2 GiB of memory (at most 1 GiB)", ""))
    assert not list(own_templates.rglob("*"))
    assert site.records() == []


@needs_root
def test_a_job_that_is_allowed_runs_and_ends_when_the_rule_says(site: Site) -> None:
    before = site_policy(site, '[[rule]]\naction = "allow"\nlimits = { time = "2s" }\n')
    assert site.run("echo", "fine", before=before).out == b"fine\n"
    ended = site.run("sleep", "60", before=before)
    assert ended.status == 124
    assert site.record()["end"]["reason"] == "timeout"


@needs_root
@pytest.mark.parametrize(
    ("text", "mode", "owner", "told"),
    [
        ('[[rule]]\naction = "allow"\n', 0o600, 0, "cannot be used: it cannot be read: Permission denied"),
        ('[[rule]]\naction = "allow"\n', 0o644, USER, "users other than root can write to it"),
        ('[[rule]]\naction = "allow"\n', 0o664, 0, "users other than root can write to it"),
        ('[[rule]]\naction = "alow"\nimages = "x"\n', 0o644, 0, "2 errors\n  line 1: action: 'alow'"),
    ],
)
def test_a_policy_that_cannot_be_used_denies(site: Site, text: str, mode: int, owner: int, told: str) -> None:
    site.give_to(USER)
    before = site_policy(site, text, mode, owner)
    denied = site.run("true", before=before)
    assert denied.status == 125
    assert told in denied.err
    assert site.dayfly("policy", "check", before=before).err == denied.err


@needs_root
@pytest.mark.parametrize(
    ("mode", "owner", "told"),
    [
        (0o600, 0, "it cannot be read: Permission denied"),
        (0o644, USER, "users other than root can write to it (check its owner and mode)"),
        (0o646, 0, "users other than root can write to it (check its owner and mode)"),
    ],
)
def test_settings_of_the_site_that_cannot_be_used_stop_everything(site: Site, mode: int, owner: int, told: str) -> None:
    site.give_to(USER)
    before = site_file(site, "settings.toml", "", mode, owner)
    for words in (("run", IMAGE, "--", "true"), ("usage", "list"), ("policy", "check"), ("job-shell", "slurm", "--", "true")):
        refused = site.dayfly(*words, before=before)
        assert refused.status == 125
        assert refused.err == f"dayfly: /etc/dayfly/settings.toml: 1 error\n  file: {told}\n"
    over = site.work / "etc/dayfly"
    os.chown(over / "settings.toml", 0, 0)
    (over / "settings.toml").chmod(0o644)
    os.chown(over, USER, USER)
    told = "users other than root can replace or remove it (check the owner and mode of the folder /etc/dayfly)"
    assert told in site.dayfly("policy", "check", before=before).err


@needs_root
def test_a_policy_that_the_sites_settings_name_and_that_is_absent_denies(site: Site) -> None:
    before = site_file(site, "settings.toml", '[policy]\nsystem = "/etc/dayfly/gone.toml"\n')
    extra = {"DAYFLY_SETTINGS": "/dev/null"}
    for words in (("policy", "check"), ("job-shell", "slurm", "image=debian:12", "memory_mib=1024", "--", "true")):
        denied = site.dayfly(*words, before=before, extra=extra)
        assert denied.status == 125
    assert "the policy /etc/dayfly/gone.toml does not exist" in site.dayfly("policy", "check", before=before, extra=extra).err


@needs_root
def test_a_program_of_the_users_does_not_run_on_a_sites_node(site: Site) -> None:
    """Where all jobs run in machines, it would be the one program that does not."""
    site.give_to(USER)
    before = site_file(site, "settings.toml", '[batch]\nvm = "always"\nimage = "user/debian:12"\n')
    seen, qemu = site.work / "seen", site.work / "qemu"
    qemu.write_text(f"#!/bin/sh\ntouch {seen}\n")
    qemu.chmod(0o755)
    site.configure(machine_qemu=str(qemu))
    refused = site.dayfly("job-shell", "slurm", "memory_mib=1024", "--", "true", before=before)
    assert refused.status == 125
    assert "machine.qemu: can be set only in the site's settings (set it in /etc/dayfly/settings.toml)" in refused.err
    assert not seen.exists()


@needs_root
def test_no_variable_of_the_users_names_another_policy(site: Site) -> None:
    site.give_to(USER)
    allows = site.folder / "work/allows.toml"
    allows.write_text('[[rule]]\naction = "allow"\n')
    allows.chmod(0o644)
    site.configure(policy_user=str(allows))
    before = site_policy(site, '[[rule]]\naction = "deny"\nreason = "closed"\n')
    denied = site.run("true", before=before)
    assert (denied.status, "closed" in denied.err) == (125, True)
    site.configure(policy_system=str(allows))
    refused = site.run("true", before=before)
    assert refused.status == 125
    assert "can be set only in the site's settings" in refused.err


@needs_root
def test_without_a_policy_a_users_own_image_has_no_network_and_writes_to_nothing_of_roots(site: Site, tmp_path: Path) -> None:
    site.give_to(USER)
    roots = site.work / "roots"
    roots.mkdir()
    roots.chmod(0o777)
    denied = site.run("true", options=("--network", "nat", "--share", str(roots)))
    assert denied.status == 125
    assert f"the network nat (allowed: none); to share {roots} for writing, which is root's (only with :ro)" in denied.err
    assert denied.err.endswith("in the rules of a site without /etc/dayfly/policy.toml)\n")
    allowed = site.run("id", "-u", options=("--user", "root", "--share", f"{roots}:ro"))
    assert (allowed.status, allowed.out) == (0, b"0\n"), allowed.err


@needs_root
def test_without_a_policy_nobody_runs_what_somebody_else_could_change(site: Site) -> None:
    """Not even root, in whose shares it would have root's rights."""
    copy = site.work / "library"
    copy.mkdir()
    os.chown(copy, USER, USER)
    for part in ("oci-layout", "index.json", "blobs"):
        (copy / part).symlink_to(site.library / part)
    site.configure(library_user=str(copy))
    denied = site.run("true")
    assert denied.status == 125
    assert "no rule is about the user 0 and user/debian:12 in another user's library" in denied.err


def test_a_users_own_policy_is_asked_as_well(site: Site) -> None:
    own = site.work / "policy.toml"
    own.write_text('[[rule]]\naction = "allow"\nlimits = { root = false }\n')
    site.configure(policy_user=str(own))
    denied = site.run("true", options=("--user", "root"))
    assert denied.status == 125
    assert f"to be root in the machine (the rule at line 1 of {own})" in denied.err
    assert site.run("echo", "fine").out == b"fine\n"


@needs_root
def test_a_batch_job_is_asked_for_in_the_same_words(site: Site) -> None:
    text = '[[rule]]\naction = "allow"\naccount = "atlas"\nlimits = { network = "none" }\n'
    site_policy(site, text)
    before = site_settings(site, "[batch]\nchecked_accounts = true\n")
    words = ("job-shell", "slurm", f"image={IMAGE}", "memory_mib=1024")
    environment = {"SLURM_JOB_ID": "7", "SLURM_JOB_ACCOUNT": "atlas", "SLURM_CPUS_ON_NODE": "1"}
    denied = site.dayfly(*words, "network=nat", "--", "echo", "fine", extra=environment, before=before)
    assert (denied.status, denied.out) == (125, b"")
    assert denied.err.startswith(
        "dayfly: the policy does not allow this: the network nat (allowed: none) (the rule at line 1 of "
    )
    assert denied.err.count("\n") == 1
    assert site.dayfly(*words, "--", "echo", "fine", extra=environment, before=before).out == b"fine\n"
    for changed in ({"SLURM_JOB_ACCOUNT": "cms"}, {"SLURM_STEP_ID": "0"}):  # a step's account is srun's user's to say
        other = site.dayfly(*words, "--", "true", extra={**environment, **changed}, before=before)
        assert "no rule is about" in other.err
