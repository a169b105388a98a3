import os
import pwd
from dataclasses import fields
from pathlib import Path

import pytest

from dayfly.errors import FileMistakes
from dayfly.settings import _READERS, USER, Queue, Settings, load, parse

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
    "machine.qemu": "/opt/qemu",
    "machine.boot_timeout": "30s",
    "job.grace": 5,
    "build.mirror": "http://mirror.example/debian",
    "policy.system": "/h",
    "policy.user": "/i",
    "batch.vm": "always",
    "batch.image": "debian:12",
    "batch.images": ["debian:*"],
    "batch.memory": "2G",
    "batch.shares": ["/home"],
    "batch.overhead": "300M",
    "batch.comment": False,
    "batch.requeues": 0,
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
    settings = parse('[machine]\nmemory = "2G"\ncpus = 2\n', Settings(), path="f", site=False)
    assert (settings.machine_memory, settings.machine_cpus) == (2 << 30, 2)


def test_all_mistakes_at_once() -> None:
    machine = '[machine]\nmemory = "lots"\ncpu = 2\naccelerator = "xen"\ncpus = true\n'
    text = machine + '[library]\nsystem = "/mine"\n[scratch]\nfolder="relative"\n'
    with pytest.raises(FileMistakes) as caught:
        parse(text, Settings(), path="f", site=False)
    places = {mistake.place for mistake in caught.value.mistakes}
    assert places == {"machine.memory", "machine.cpu", "machine.accelerator", "machine.cpus", "library.system", "scratch.folder"}
    assert "did you mean machine.cpus?" in str(caught.value)


def test_syntax_is_a_mistake_too() -> None:
    with pytest.raises(FileMistakes, match="syntax"):
        parse("[machine", Settings(), path="f", site=True)


def test_user_over_site(tmp_path: Path) -> None:
    site, user = tmp_path / "site.toml", tmp_path / "user.toml"
    site.write_text('[library]\nsystem = "/srv/images"\n[machine]\ncpus = 2\n')
    user.write_text("[machine]\ncpus = 4\n")
    settings = load(site, user)
    assert (settings.library_system, settings.machine_cpus) == (Path("/srv/images"), 4)


def test_no_files_are_no_mistake(tmp_path: Path) -> None:
    assert load(tmp_path / "none", tmp_path / "none").machine_cpus == 1


def test_a_named_file_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAYFLY_SETTINGS", str(tmp_path / "gone.toml"))
    with pytest.raises(FileMistakes, match="DAYFLY_SETTINGS"):
        load(tmp_path / "none")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileMistakes, match="cannot be read: Is a directory"):
        load(tmp_path / "none", tmp_path)


def test_too_large_a_file(tmp_path: Path) -> None:
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(FileMistakes, match="larger"):
        load(tmp_path / "none", large)


def test_queues() -> None:
    text = '[batch]\nvm = "always"\n[batch.queues.short]\nvm = "never"\nimages = ["el:9"]\n'
    settings = parse(text, Settings(), path="f", site=True)
    assert settings.batch_vm == "always"
    assert settings.batch_queues == {"short": Queue("never", "", ("el:9",))}


@pytest.mark.parametrize("queue", ["1", "[1]", "{a = 1}", '{a = {vm = "perhaps"}}', "{a = {v = 1}}"])
def test_mistakes_in_queues(queue: str) -> None:
    with pytest.raises(FileMistakes, match=r"batch\.queues"):
        parse(f"[batch]\nqueues = {queue}\n", Settings(), path="f", site=True)


def test_what_batch_jobs_get_is_the_sites_to_say() -> None:
    with pytest.raises(FileMistakes, match="only the site's"):
        parse('[batch]\nvm = "never"\n', Settings(), path="f", site=False)


def test_users_names_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAYFLY_SETTINGS", raising=False)
    text = '[records]\nfolder = "/spool/{user}/records"\n[templates]\nuser = "/{user}/{user}"\nsystem = "/t/{user}"\n'
    (tmp_path / "site").write_text(text)
    settings = load(tmp_path / "site", tmp_path / "none", user="ada")
    assert (settings.records_folder, settings.templates_user) == (Path("/spool/ada/records"), Path("/ada/ada"))
    assert settings.templates_system == Path("/t/{user}")  # is nobody's own
    assert load(tmp_path / "site", tmp_path / "none").records_folder == Path(
        f"/spool/{pwd.getpwuid(os.getuid()).pw_name}/records"
    )
    assert load(tmp_path / "site", tmp_path / "none", user=USER).records_folder == Path("/spool/{user}/records")
