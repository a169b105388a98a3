"""Reading a file of rules (TOML; docs/reference/policy.md). Pure. Imported only where there is such a file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any

from dayfly.errors import FieldError, FileErrors, Refused
from dayfly.image.reference import is_digest
from dayfly.machine.config import Network
from dayfly.policy.rules import Conditions, Limits, Policy, Rule
from dayfly.units import parse_duration, parse_size

MOST_RULES = 1000
_MOST_TEXTS = 1000
_TEXT_LIMIT = 1024
_HEADER = re.compile(r"[ \t]*\[\[[ \t]*rule[ \t]*\]\][ \t]*(?:#.*)?")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f]")
_LIBRARIES = ("system", "own", "other")


def parse(text: str, place: str) -> Policy:
    """The policy in a file's text; `place` is the file. Raises `FileErrors` with all errors in it."""
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a ValueError too
        raise FileErrors(place, [FieldError("syntax", str(error))]) from None
    errors = [FieldError(name, "no such table", "a policy is made of [[rule]]") for name in tables if name != "rule"]
    rules = tables.get("rule", [])
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise FileErrors(place, [*errors, FieldError("rule", "is not a list of tables", "write [[rule]] above each")])
    lines = [number for number, line in enumerate(text.splitlines(), 1) if _HEADER.fullmatch(line)]
    if len(lines) != len(rules):
        hint = "write [[rule]] above each, on a line of its own, and nowhere else"
        raise FileErrors(place, [*errors, FieldError("rule", f"{len(lines)} headers for {len(rules)} rules", hint)])
    if len(rules) > MOST_RULES:
        raise FileErrors(place, [*errors, FieldError("rule", f"has {len(rules)} rules; the limit is {MOST_RULES}")])
    parsed = tuple(_rule(table, line, errors) for table, line in zip(rules, lines, strict=True))
    if errors:
        raise FileErrors(place, errors)
    return Policy(parsed, place)


def _rule(table: Mapping[str, object], line: int, errors: list[FieldError]) -> Rule:
    """One rule; its errors are added to `errors`."""
    place = f"line {line}"
    own = {name: value for name, value in table.items() if name in _WORDS}
    words = _read(_WORDS, own, place, errors)
    conditions = {name: value for name, value in table.items() if name not in _WORDS and name != "limits"}
    limits = table.get("limits", {})
    if not isinstance(limits, dict):
        errors.append(FieldError(f"{place}: limits", "is not a table", 'write it like limits = { network = "none", cpus = 4 }'))
        limits = {}
    if "action" not in table:
        errors.append(FieldError(place, "the rule has no action", 'write action = "allow" or action = "deny"'))
    allow = words.pop("action", "allow") == "allow"
    if limits and not allow:
        errors.append(FieldError(f"{place}: limits", "have no effect in a rule that denies", "remove them, or allow"))
    if "reason" in words and allow:
        errors.append(FieldError(f"{place}: reason", "has no effect in a rule that allows", "remove it, or deny"))
    return Rule(
        allow=allow,
        conditions=Conditions(**_read(_CONDITIONS, conditions, place, errors)),
        limits=Limits(**_read(_LIMITS, limits, f"{place}: limits", errors, ".")),
        line=line,
        **words,
    )


def _read(
    readers: Mapping[str, Callable[[object], object]],
    values: Mapping[str, object],
    place: str,
    errors: list[FieldError],
    between: str = ": ",
) -> dict[str, Any]:
    """The values, each read by its reader. A value that cannot be read is left out and is an error."""
    read: dict[str, object] = {}
    for name, value in values.items():
        where = f"{place}{between}{_shown(name)}"
        reader = readers.get(name)
        if reader is None:
            errors.append(FieldError(where, "is unknown", f"one of: {', '.join(_known(readers))}"))
            continue
        try:
            read[name] = reader(value)
        except Refused as error:
            errors.append(FieldError(where, error.message, error.hint))
    return read


def _known(readers: Mapping[str, object]) -> list[str]:
    return [*_WORDS, *readers, "limits"] if readers is _CONDITIONS else list(readers)


def _shown(name: str) -> str:
    return _UNPRINTABLE.sub("?", name[:64])


def _line(value: object) -> str:
    if not isinstance(value, str) or not value or len(value) > _TEXT_LIMIT or _UNPRINTABLE.search(value):
        raise Refused(f"{_short(value)} is not a line of text")
    return value


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # a number of thousands of digits
        return "a number"
    return text if len(text) <= 80 else f"{text[:80]}…"


def _lines(value: object) -> tuple[str, ...]:
    """A text or a list of texts. An empty one is an error: it would hold for everybody, or for nobody."""
    values = value if isinstance(value, list) else [value]
    if not values or len(values) > _MOST_TEXTS:
        raise Refused(f"is not a text or a list of 1 to {_MOST_TEXTS} texts")
    return tuple(map(_line, values))


def _patterns(value: object) -> tuple[str, ...]:
    """Patterns. In other programs a `!` means "not". Here it would be a plain character, and the rule would hold for nobody."""
    for text in _lines(value):
        if text.startswith("!"):
            hint = f'patterns have no "not": write a rule about {_short(text[1:])} above this one, which denies or allows'
            raise Refused(f"{_short(text)} begins with !", hint)
    return _lines(value)


def _choice(*choices: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in choices or not isinstance(value, str):
            raise Refused(f"{_short(value)} is not one of {', '.join(choices)}")
        return value

    return read


def _choices(*choices: str) -> Callable[[object], tuple[str, ...]]:
    return lambda value: tuple(map(_choice(*choices), _lines(value)))


def _digests(value: object) -> tuple[str, ...]:
    for text in _lines(value):
        if not is_digest(text):
            raise Refused(
                f"{_short(text)} is not a complete digest", "sha256: and 64 hexadecimal digits, as `dayfly image show` has"
            )
    return _lines(value)


def _endorsers(value: object) -> tuple[str, ...]:
    from dayfly.image.trust.imagelist import one_line  # noqa: PLC0415 (only where a rule names endorsers)

    return tuple(map(one_line, _patterns(value)))


def _labels(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict) or not value:
        raise Refused(f"{_short(value)} is not a table of labels", 'write it like label = { "org.example.checked" = "yes" }')
    return {_line(name): _patterns(text)[0] for name, text in value.items() if _line(text)}


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise Refused(f"{_short(value)} is neither true nor false")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1_000_000:
        raise Refused(f"{_short(value)} is not a number of CPUs")
    return value


def _size(value: object) -> int:
    return parse_size(_short(value) if isinstance(value, int) else _line(value))


def _duration(value: object) -> float:
    return parse_duration(_short(value) if isinstance(value, int) else _line(value))


def _folders(value: object) -> tuple[str, ...]:
    if value == []:
        return ()
    for text in _lines(value):
        path = text.removesuffix(":ro").removesuffix(":rw")
        if not path.startswith("/") or any(part in ("", ".", "..") for part in path.rstrip("/").split("/")[1:]):
            raise Refused(f"{_short(text)} is not an absolute path", "PATH or PATH:ro, without . and ..")
    return _lines(value)


def _networks(value: object) -> tuple[str, ...]:
    return () if value == [] else _choices(*map(str, Network))(value)


_WORDS: Mapping[str, Callable[[object], object]] = {"action": _choice("allow", "deny"), "name": _line, "reason": _line}
_CONDITIONS: Mapping[str, Callable[[object], object]] = {
    "user": _patterns,
    "group": _patterns,
    "account": _patterns,
    "library": _choices(*_LIBRARIES),
    "image": _patterns,
    "digest": _digests,
    "endorser": _endorsers,
    "origin": _patterns,
    "label": _labels,
}
_LIMITS: Mapping[str, Callable[[object], object]] = {
    "root": _flag,
    "network": _networks,
    "shares": _folders,
    "root_shares": _choice("rw", "ro", "none"),
    "cpus": _count,
    "memory": _size,
    "time": _duration,
    "capture": _flag,
}
