"""How scripts are put together: what they carry, and what their constants become."""

from __future__ import annotations

import re
from functools import partial
from itertools import takewhile
from pathlib import Path

import pytest

from penstock import scripts
from penstock.scripts import _LUA, load

SCRIPTS = sorted(path.name.removesuffix(".lua") for path in _LUA.iterdir() if path.is_file())
FUNCTION = re.compile(r"^local function (\w+)", re.MULTILINE)
DEFINITION = re.compile(r" *local (?:function )?(\w+)")
CALL = re.compile(r"(?<![.:\w])([a-z]\w*)\(")
PIECES = [path.read_text() for path in (_LUA / "include").iterdir()]
SHARED = {name for piece in PIECES for name in FUNCTION.findall(piece)}
TEXT_OR_COMMENT = re.compile(r"'[^']*'|--[^\n]*")


def _code(name: str) -> list[str]:
    code = TEXT_OR_COMMENT.sub("", load(name).source)
    return [line for line in code.splitlines() if line.strip()]


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_has_every_shared_function_it_calls(name: str) -> None:
    """What is called was defined before, in the same function or in one around it."""
    visible: list[tuple[int, str]] = []
    for line in _code(name):
        visible = [each for each in visible if each[0] <= _depth(line)]
        if defined := DEFINITION.match(line):
            visible.append((_depth(line), defined[1]))
        assert set(CALL.findall(line)) & SHARED <= {known for _, known in visible}, line


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_carries_no_shared_function_that_nothing_calls(name: str) -> None:
    """Every shared function in a script is named again where it can be seen."""
    lines = _code(name)
    for at, line in enumerate(lines):
        defined = DEFINITION.match(line)
        if defined and "local function" in line and defined[1] in SHARED:
            scope = takewhile(partial(_reaches, _depth(line)), lines[at + 1 :])
            assert re.search(rf"\b{defined[1]}\b", "\n".join(scope)), line


def _reaches(depth: int, line: str) -> bool:
    return _depth(line) >= depth


@pytest.mark.parametrize("name", SCRIPTS)
def test_constants_are_gone_from_a_script(name: str) -> None:
    """No name in capitals is left but Redis's own and what has to be reckoned at run time."""
    assert set(re.findall(r"\b[A-Z][A-Z_]+\b", "\n".join(_code(name)))) <= {"KEYS", "ARGV", "CLASS"}


def test_what_a_function_includes_for_itself_is_made_in_it() -> None:
    """A call that needs no windows makes none of their functions, and one that does has them."""
    admit = load("admit").source
    assert "\nlocal function window_total" not in admit
    route_limits = admit.partition("\nlocal function open_route_limits")[2].partition("\nend\n")[0]
    assert "\n  local function window_total" in route_limits
    assert "\n  local function meter_wait" in route_limits


def test_inner_pieces_are_put_together_as_others_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that comes too late for it is there, and one within another, each with its constants."""
    pieces = {
        "outer": "local function outer()\n  -- include: inner, other\n  inner(); other()\nend",
        "inner": "local MOST = 1\nlocal function inner()\n  -- include: late\n  late(MOST)\nend",
        "other": "local MOST = 2\nlocal function other()\n  return MOST\nend",
        "late": "local function late(most)\n  return most\nend",
    }
    (tmp_path / "include").mkdir()
    for name, text in pieces.items():
        (tmp_path / "include" / f"{name}.lua").write_text(f"{text}\n")
    own = "local function own()\n  -- include: inner\n  inner()\nend"
    (tmp_path / "made_up.lua").write_text(
        f"#!lua\n-- include: outer, late\n{own}\nreturn outer(), late(3), own()\n"
    )
    monkeypatch.setattr(scripts, "_LUA", tmp_path)
    made_up = scripts.load.__wrapped__("made_up").source
    assert "late(1)" in made_up
    assert "return 2" in made_up
    assert made_up.count("\n  local function inner") == 2
    assert re.findall("^( *)local function late", made_up, re.MULTILINE) == ["    ", ""]


def test_a_constant_is_that_of_its_own_piece() -> None:
    """Two pieces may each give a name a meaning of their own."""
    admit = load("admit").source
    assert "'EXPIRE', key, 180)" in admit  # LOOKED_AT in traffic.lua
    assert "unpark(200)" in admit  # LOOKED_AT in admit.lua
    assert "(400 * 86400)" in load("finish").source  # KEPT in usage.lua, by way of DAY
