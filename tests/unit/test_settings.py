import json
import os
import pwd
import re
from dataclasses import fields
from pathlib import Path

import pytest

from dayfly.errors import FileErrors
from dayfly.settings import _READERS, USER, Queue, Settings, Whose, load, parse, whose

OURS = {0, os.getuid()}

EXAMPLES: dict[str, object] = {
    "library.system": "/a",
    "library.user": "/b",
    "records.folder": "/c",
    "library.cache": "/j",
    "cache.folder": "/d",
    "templates.system": "/f",
    "templates.user": "/g",
    "templates.limit": 0,
    "scratch.folder": "/e",
    "scratch.size": "1G",
    "machine.cpus": 3,
    "machine.memory": "2G",
    "machine.accelerator": "tcg",
    "machine.cpu_model": "x86-64-v2",
    "machine.qemu": "/opt/qemu",
    "machine.boot_timeout": "30s",
    "job.grace": 5,
    "build.mirror": "http://mirror.example/debian",
    "policy.system": "/h",
    "policy.user": "/i",
    "trust.weak_lists": True,
    "batch.vm": "always",
    "batch.image": "debian:12",
    "batch.images": ["debian:*"],
    "batch.memory": "2G",
    "batch.shares": ["/home"],
    "batch.overhead": "300M",
    "batch.comment": False,
    "batch.requeues": 0,
    "batch.checked_accounts": True,
    "batch.own_templates": True,
    "batch.native_parallel": False,
    "batch.queues": {"short": {"vm": "never", "images": ["el:9"]}},
}


def test_every_field_has_a_reader_of_its_type() -> None:
    """`parse` gives readers' results to `replace` unchecked; this is the check."""
    assert (
        {field.name for field in fields(Settings)}
        == {place.replace(".", "_") for place in _READERS}
        == {place.replace(".", "_") for place in EXAMPLES}
    )
    defaults = Settings()
    for place, value in EXAMPLES.items():
        assert type(_READERS[place](value)) is type(getattr(defaults, place.replace(".", "_"))) or isinstance(
            _READERS[place](value), Path
        )


def test_reads_a_file() -> None:
    settings = parse('[machine]\nmemory = "2G"\ncpus = 2\n', Settings(), path="f", by=Whose.HOST)
    assert (settings.machine_memory, settings.machine_cpus) == (2 << 30, 2)


def test_all_errors_at_once() -> None:
    machine = '[machine]\nmemory = "lots"\ncpu = 2\naccelerator = "xen"\ncpus = true\n'
    text = machine + '[library]\nsystem = "/mine"\n[scratch]\nfolder="relative"\n'
    with pytest.raises(FileErrors) as caught:
        parse(text, Settings(), path="f", by=Whose.HOST)
    places = {error.place for error in caught.value.errors}
    assert places == {"machine.memory", "machine.cpu", "machine.accelerator", "machine.cpus", "library.system", "scratch.folder"}
    assert "did you mean machine.cpus?" in str(caught.value)


def test_syntax_is_a_error_too() -> None:
    with pytest.raises(FileErrors, match="syntax"):
        parse("[machine", Settings(), path="f", by=Whose.SITE)


def test_user_over_site(tmp_path: Path) -> None:
    site, user = tmp_path / "site.toml", tmp_path / "user.toml"
    site.write_text('[library]\nsystem = "/srv/images"\n[machine]\ncpus = 2\n')
    user.write_text("[machine]\ncpus = 4\n")
    settings = load(site, user, owners=OURS)
    assert (settings.library_system, settings.machine_cpus) == (Path("/srv/images"), 4)


def test_no_files_are_no_error(tmp_path: Path) -> None:
    assert load(tmp_path / "none", tmp_path / "none").machine_cpus == 1


def test_a_named_file_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAYFLY_SETTINGS", str(tmp_path / "gone.toml"))
    with pytest.raises(FileErrors, match="DAYFLY_SETTINGS"):
        load(tmp_path / "none")


def test_a_sites_file_that_a_hook_names_must_be_there(tmp_path: Path) -> None:
    """Else a filesystem that is not mounted would make every queue one without rules."""
    with pytest.raises(FileErrors, match="does not exist"):
        load(tmp_path / "gone.toml", Path("/dev/null"), required=True)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileErrors, match="cannot be read: Is a directory"):
        load(tmp_path / "none", tmp_path)


def test_too_large_a_file(tmp_path: Path) -> None:
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(FileErrors, match="larger"):
        load(tmp_path / "none", large)


def test_queues() -> None:
    text = '[batch]\nvm = "always"\n[batch.queues.short]\nvm = "never"\nimages = ["el:9"]\n'
    settings = parse(text, Settings(), path="f", by=Whose.SITE)
    assert settings.batch_vm == "always"
    assert settings.batch_queues == {"short": Queue("never", "", ("el:9",))}


@pytest.mark.parametrize("queue", ["1", "[1]", "{a = 1}", '{a = {vm = "perhaps"}}', "{a = {v = 1}}"])
def test_errors_in_queues(queue: str) -> None:
    with pytest.raises(FileErrors, match=r"batch\.queues"):
        parse(f"[batch]\nqueues = {queue}\n", Settings(), path="f", by=Whose.SITE)


def test_what_batch_jobs_get_is_the_sites_to_say() -> None:
    with pytest.raises(FileErrors, match="only in the site's"):
        parse('[batch]\nvm = "never"\n', Settings(), path="f", by=Whose.HOST)


def test_users_names_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAYFLY_SETTINGS", raising=False)
    text = '[records]\nfolder = "/spool/{user}/records"\n[templates]\nuser = "/{user}/{user}"\nsystem = "/t/{user}"\n'
    (tmp_path / "site").write_text(text)
    settings = load(tmp_path / "site", tmp_path / "none", user="ada", owners=OURS)
    assert (settings.records_folder, settings.templates_user) == (Path("/spool/ada/records"), Path("/ada/ada"))
    assert settings.templates_system == Path("/t/{user}")  # is nobody's own
    assert load(tmp_path / "site", tmp_path / "none", owners=OURS).records_folder == Path(
        f"/spool/{pwd.getpwuid(os.getuid()).pw_name}/records"
    )
    assert load(tmp_path / "site", tmp_path / "none", user=USER, owners=OURS).records_folder == Path("/spool/{user}/records")


WHOSE: dict[str, tuple[Whose, str]] = {
    "library.system": (Whose.SITE, "policies trust what is in it"),
    "library.user": (Whose.USER, "policies call it the user's own, by the owner of its folder"),
    "library.cache": (Whose.USER, "what comes by it is compared with its digest, and enters the caller's library"),
    "records.folder": (Whose.USER, "records are written as the user, who could remove them"),
    "cache.folder": (Whose.USER, "is written as the user; a queue that gives all jobs machines makes its filesystems anew"),
    "templates.system": (Whose.SITE, "what is in it becomes the memory of everybody's jobs"),
    "templates.user": (Whose.USER, "is written as the user; does not count in a queue that gives all jobs machines"),
    "templates.limit": (Whose.HOST, "a limit of what is taken of the host's disks"),
    "scratch.folder": (Whose.HOST, "which of the host's disks jobs fill"),
    "scratch.size": (Whose.HOST, "a limit of what a batch job takes of them"),
    "machine.cpus": (Whose.USER, "a default; the allocation or the policy limits it"),
    "machine.memory": (Whose.USER, "a default; the allocation or the policy limits it"),
    "machine.accelerator": (Whose.HOST, "QEMU promises to keep a guest apart from the host under KVM alone"),
    "machine.cpu_model": (Whose.USER, "what the own programs can execute"),
    "machine.qemu": (Whose.HOST, "a program that is executed on the host"),
    "machine.boot_timeout": (Whose.USER, "how long a user waits for the own machine"),
    "job.grace": (Whose.HOST, "is added to the time that the policy allows"),
    "build.mirror": (Whose.USER, "packages are signed, and the image is the user's own"),
    "policy.system": (Whose.SITE, "the rules for users"),
    "policy.user": (Whose.USER, "can deny, and allow nothing that the site denies"),
    "trust.weak_lists": (Whose.SITE, "makes what others could have forged count in the site's policy"),
    **{name: (Whose.SITE, "what batch jobs get") for name in EXAMPLES if name.startswith("batch.")},
}


def as_toml(place: str) -> str:
    table, _, key = place.partition(".")
    if place == "batch.queues":
        return '[batch.queues.short]\nvm = "never"\n'
    return f"[{table}]\n{key} = {json.dumps(EXAMPLES[place])}\n"


def test_every_setting_is_classified_by_who_may_say_it() -> None:
    """A new one fails here until somebody has thought about what a user could do with it."""
    assert {place: whose(place) for place in _READERS} == {place: who for place, (who, _) in WHOSE.items()}


@pytest.mark.parametrize("place", WHOSE)
def test_who_may_say_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """A user's file, by either way of naming it, says what is the user's; what is the host's where there is no site's file."""
    who, _ = WHOSE[place]
    site, user, absent = tmp_path / "site.toml", tmp_path / "user.toml", tmp_path / "absent.toml"
    name, empty = place.replace(".", "_"), Settings()
    site.write_text("")
    user.write_text(as_toml(place))
    monkeypatch.setenv("DAYFLY_SETTINGS", str(user))
    for there, least in ((site, Whose.USER), (absent, Whose.HOST)):
        for named in (user, None):
            if who > least:
                with pytest.raises(FileErrors) as caught:
                    load(there, named, owners=OURS)
                (error,) = caught.value.errors
                assert (error.place, error.message) == (place, "can be set only in the site's settings")
            else:
                assert getattr(load(there, named, owners=OURS), name) != getattr(empty, name)
    assert getattr(load(user, Path("/dev/null"), owners=OURS), name) != getattr(empty, name)


def test_the_page_says_who_may_say_what() -> None:
    page = (Path(__file__).parent.parent.parent / "docs/reference/settings.md").read_text()
    section = page.partition("## Who may say what\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| **")]
    said = {who.strip(" *"): set(re.findall(r"`([a-z]+\.[a-z_]+|batch)`", names)) for who, names in rows}
    batch = {place for place in _READERS if place.startswith("batch.")}
    assert said["The site alone"] == ({place for place in _READERS if whose(place) is Whose.SITE} - batch) | {"batch"}
    assert said["The site where it has a file"] == {place for place in _READERS if whose(place) is Whose.HOST}


def test_a_sites_file_that_others_could_have_written_stops_everything(tmp_path: Path) -> None:
    site = tmp_path / "dayfly/settings.toml"
    site.parent.mkdir()
    site.write_text("[machine]\ncpus = 2\n")
    site.chmod(0o644)
    assert load(site, Path("/dev/null"), owners=OURS).machine_cpus == 2
    for path, mode, told in [
        (site, 0o664, "can write to it"),
        (site, 0o646, "can write to it"),
        (site.parent, 0o775, "can replace or remove it"),
        (site.parent, 0o757, "can replace or remove it"),
    ]:
        before = path.stat().st_mode & 0o7777
        path.chmod(mode)
        with pytest.raises(FileErrors, match=told):
            load(site, Path("/dev/null"), owners=OURS)
        path.chmod(before)
    with pytest.raises(FileErrors, match="users other than you and root can write to it"):
        load(site, Path("/dev/null"), owners={os.getuid() + 1})


def test_a_folder_from_which_others_could_have_removed_the_sites_file_stops_everything(tmp_path: Path) -> None:
    folder = tmp_path / "dayfly"
    folder.mkdir()
    site = folder / "settings.toml"
    assert load(site, Path("/dev/null"), owners=OURS) == Settings()
    folder.chmod(0o777)
    with pytest.raises(FileErrors, match="can replace or remove it"):
        load(site, Path("/dev/null"), owners=OURS)
    folder.chmod(0o1777)  # with the sticky bit nobody takes away what is another's, and what another puts there is not root's
    assert load(site, Path("/dev/null"), owners=OURS) == Settings()


def test_folders_are_judged_that_links_lead_through(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/settings.toml").write_text("")
    (tmp_path / "open").mkdir()
    (tmp_path / "open/hop").symlink_to("../real")
    (tmp_path / "etc").symlink_to("open/hop")
    site = tmp_path / "etc/settings.toml"
    assert load(site, Path("/dev/null"), owners=OURS) == Settings()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(FileErrors) as caught:
        load(site, Path("/dev/null"), owners=OURS)
    assert f"the folder {tmp_path}/open)" in str(caught.value)


def test_the_sites_file_is_a_regular_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    for path, told in ((tmp_path, "regular"), (tmp_path / "link", "dangling link")):
        with pytest.raises(FileErrors, match=told):
            load(path, Path("/dev/null"), owners=OURS)
