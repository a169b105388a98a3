import argparse
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.app.diagnosis import OLDEST_QEMU, parse_version
from dayfly.batch.submission import store
from dayfly.cli import main
from dayfly.cli.commands import COMMANDS
from dayfly.cli.listing import table
from dayfly.cli.parser import Parser, UsageError
from dayfly.cli.run import configure, description, environment
from dayfly.cli.toplevel import toplevel_parser
from dayfly.cli.usage import _row
from dayfly.job.description import JobDescription
from dayfly.job.records import Records
from dayfly.job.usage import ImageUsed, MachineUsed, UsageRecord
from dayfly.machine.config import Network, Shape
from dayfly.settings import Settings


def job(*words: str, command: tuple[str, ...] = ("true",)) -> JobDescription:
    parser = Parser(prog="dayfly run")
    configure(parser)
    arguments = parser.parse_args(words)
    arguments.after_dashes = list(command)
    return description(arguments, Settings())


def test_defaults_are_the_settings() -> None:
    described = job("debian:12")
    assert described.shape == Shape(1, 512 << 20)
    assert described.scratch == 8 << 30
    assert described.share_directory
    assert described.network is Network.NONE
    assert described.terminal is None


def test_options() -> None:
    described = job("debian:12", "--cpus", "2", "--memory", "2G", "-t", "--timeout", "10m", "--network", "nat", "--user", "root")
    assert (described.shape, described.timeout, described.terminal, described.root) == (Shape(2, 2 << 30), 600, True, True)
    assert described.network is Network.NAT


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a", "b"],
        ["a", "--cpus", "0"],
        ["a", "--memory", "lots"],
        ["a", "--network", "bridge"],
        ["a", "--user", "bob"],
        ["a", "--env", "X"],
        ["a", "--env", "=1"],
        ["a", "--workdir", "here"],
        ["a", "--share", "/usr"],
        ["a", "--nonsense"],
        ["a", "--save-failed"],
        ["a", "--save-as", "system/a:1"],
        ["a", "--save-as", "A"],
        ["a", "--save-as", f"sha256:{'0' * 64}"],
    ],
)
def test_errors_on_the_command_line(words: list[str]) -> None:
    with pytest.raises(UsageError):
        job(*words)


def test_a_job_that_is_saved_is_root() -> None:
    assert job("a", "--save-as", "b:1").root
    assert job("a", "--save-as", "user/b").root


def test_no_command_means_the_images_own() -> None:
    assert job("a", command=()).command == ()


def test_path_that_is_said_for_the_job_is_its_own() -> None:
    assert job("a", "--env", "PATH=/x").own_path
    assert not job("a", "--env", "PATHS=/x").own_path


def test_errors_are_one_line_and_125(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "debian:12", "ls"]) == 125
    error = capsys.readouterr().err
    assert error.startswith("dayfly: ")
    assert error.count("\n") == 1


@given(st.dictionaries(st.binary(min_size=1, max_size=5).filter(lambda name: b"=" not in name), st.binary(max_size=5)))
def test_the_environment_passes_unchanged(variables: dict[bytes, bytes]) -> None:
    assert environment(dict(variables), []) == tuple(name + b"=" + value for name, value in variables.items())


def test_env_sets_and_replaces() -> None:
    assert environment({b"A": b"1"}, ["A=2", "B=x=y", "C="]) == (b"A=2", b"B=x=y", b"C=")


def subcommands(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [parser, *(inner for action in below for choice in action.choices.values() for inner in subcommands(choice))]


def test_everything_has_a_help_text() -> None:
    parsers = subcommands(toplevel_parser())
    assert len(parsers) > len(COMMANDS) + 1
    for parser in parsers:
        assert parser.description
        assert all(action.help for action in parser._actions if not isinstance(action, argparse._SubParsersAction))
        assert parser.format_help()


def leaves() -> list[Parser]:
    found = [parser for parser in subcommands(toplevel_parser()) if parser._subparsers is None]
    assert all(isinstance(parser, Parser) for parser in found)
    return found  # type: ignore[return-value]


ANSWERS = {
    "IMAGE": "debian:12",
    "SOURCE": "https://example.org/a.qcow2",
    "NAME": "a:1",
    "N": "2",
    "SIZE": "64M",
    "DIGEST": "0" * 128,
    "ID": "slurm:42",
}


def words_of(parser: Parser) -> tuple[list[str], list[list[str]]]:
    """A command's arguments, each given once, and its options, each with a value where it takes one."""
    arguments: list[str] = []
    options: list[list[str]] = []
    for action in parser._actions:
        choices = [str(choice) for choice in action.choices or ()]
        metavar = action.metavar if isinstance(action.metavar, str) else (action.dest or "")
        value = choices[0] if choices else ANSWERS.get(metavar.strip("[]").partition("[")[0].partition(":")[0], "x")
        if isinstance(action, (argparse._HelpAction, argparse._VersionAction)):
            continue
        if not action.option_strings:
            arguments += [value] * (2 if action.nargs in ("+", "*") else 1)
        elif action.nargs == 0:
            options.append([action.option_strings[0]])
        else:
            options.append([action.option_strings[0], value])
    return arguments, options


@pytest.mark.parametrize("parser", leaves(), ids=lambda parser: parser.prog.replace(" ", "-"))
def test_options_may_stand_between_the_arguments(parser: Parser) -> None:
    """Of every command: each of its options, at each place."""
    arguments, options = words_of(parser)

    def parsed(words: list[str]) -> object:
        try:
            return vars(parser.parse_args(words))
        except UsageError as error:
            return str(error)  # of an option whose value is not one: the same wherever it stands

    for option in options:
        first = parsed([*option, *arguments])
        for place in range(1, len(arguments) + 1):
            assert parsed([*arguments[:place], *option, *arguments[place:]]) == first


def test_the_documented_import_of_a_disk() -> None:
    parser = next(parser for parser in leaves() if parser.prog == "dayfly image import")
    words = ["https://cloud.example.org/debian-12.qcow2", "--sha512", "0" * 128, "debian:12-cloud"]
    parsed = vars(parser.parse_args(words))
    assert "debian:12-cloud" in map(str, parsed.values())
    assert parsed == vars(parser.parse_args([words[0], words[3], *words[1:3]]))


@pytest.mark.parametrize("parser", leaves(), ids=lambda parser: parser.prog.replace(" ", "-"))
def test_errors_name_the_help_of_their_own_command(
    parser: Parser, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "recall", str)  # it reads which jobs were submitted
    arguments, options = words_of(parser)
    required = {action.option_strings[0] for action in parser._actions if action.required and action.option_strings}
    needed = [word for option in options if option[0] in required for word in option]
    words = [*parser.prog.split()[1:], *arguments, *needed, "--no-such-option"]
    assert main(words) == 125
    error = capsys.readouterr().err
    assert "unrecognized arguments: --no-such-option" in error
    assert f"`{parser.prog} --help`" in error or (parser.surplus and parser.surplus in error)


def test_every_listing_has_json() -> None:
    listings = [
        parser
        for parser in subcommands(toplevel_parser())
        if parser.prog.split()[-1] in ("list", "show", "ps", "verify", "doctor")
    ]
    assert len(listings) == 12
    for parser in listings:
        assert "--json" in parser.format_help()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)", (7, 2, 22)),
        ("QEMU emulator version 10.0.2", (10, 0, 2)),
        ("QEMU emulator version 9.1", (9, 1)),
        ("nonsense", ()),
    ],
)
def test_qemu_versions(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version
    assert (parse_version(text) >= OLDEST_QEMU) is (version != ())


def test_tables_line_up_and_move_no_cursor() -> None:
    assert table(("A", "B"), [("日本", "x"), ("1\x1b[2J", "y")]) == "A      B\n日本   x\n1?[2J  y\n"


def test_a_command_without_dashes_is_told_where_it_belongs(capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", "debian:12", "ls"])
    assert "comes after --" in capsys.readouterr().err


def test_one_hint_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", "debian:12", "--memory", "lots", "--", "true"])
    assert capsys.readouterr().err == "dayfly: argument --memory: 'lots' is not a size (write it like 512M or 2G)\n"


def running_record() -> UsageRecord:
    return UsageRecord(
        *("0123456789", "running", "2026-01-01T00:00:00.000Z", "host", 0, "ada", ("sh", "-c", "one\n  two"), "/"),
        image=ImageUsed("debian:12", "sha256:" + 64 * "0", "user"),
        machine=MachineUsed(1, 1, 1, "tcg", "agent", "cold", "none"),
    )


def test_a_record_is_one_line_of_the_listing() -> None:
    assert _row(running_record())[-1] == "sh -c one two"


def test_a_console_that_was_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text(f'[records]\nfolder = "{tmp_path}/records"\n')
    monkeypatch.setenv("DAYFLY_SETTINGS", str(settings))
    Records(tmp_path / "records").write(running_record())
    assert main(["usage", "show", "0123456789", "--console"]) == 125
    assert capsys.readouterr().err.startswith("dayfly: the console of this job was not saved")


def test_a_folder_that_cannot_be_used_is_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, inside = tmp_path / "settings.toml", tmp_path / "library/oci-layout"
    inside.mkdir(parents=True)
    settings.write_text(f'[library]\nuser = "{inside.parent}"\n')
    monkeypatch.setenv("DAYFLY_SETTINGS", str(settings))
    assert main(["image", "list"]) == 125
    error = capsys.readouterr().err
    assert error.startswith(f"dayfly: {inside}: Is a directory")
    assert error.count("\n") == 1
