"""How scripts are put together: what they carry, and what their constants become."""

from __future__ import annotations

import re

import pytest

from penstock.scripts import _LUA, load

SCRIPTS = sorted(path.name.removesuffix(".lua") for path in _LUA.iterdir() if path.is_file())
FUNCTION = re.compile(r"^ *local function (\w+)", re.MULTILINE)
PIECES = [path.read_text() for path in (_LUA / "include").iterdir()]
SHARED = {name for piece in PIECES for name in FUNCTION.findall(piece)}
TEXT_OR_COMMENT = re.compile(r"'[^']*'|--[^\n]*")


def _code(name: str) -> str:
    return TEXT_OR_COMMENT.sub("", load(name).source)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_has_every_shared_function_it_names(name: str) -> None:
    """What the loader leaves out is not called by anything that it keeps."""
    code = _code(name)
    own = set(FUNCTION.findall(code)) | set(re.findall(r"^local (\w+)", code, re.MULTILINE))
    called = set(re.findall(r"(?<![.:\w])([a-z]\w*)\(", code))
    assert called & SHARED <= own


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_carries_no_shared_function_that_nothing_calls(name: str) -> None:
    """Every shared function in a script is named once more than where it is defined."""
    code = _code(name)
    unused = {
        function
        for function in SHARED & set(FUNCTION.findall(code))
        if len(re.findall(rf"\b{function}\b", code)) < 2
    }
    assert not unused


@pytest.mark.parametrize("name", SCRIPTS)
def test_constants_are_gone_from_a_script(name: str) -> None:
    """No name in capitals is left but Redis's own and what has to be reckoned at run time."""
    assert set(re.findall(r"\b[A-Z][A-Z_]+\b", _code(name))) <= {"KEYS", "ARGV", "CLASS"}


def test_what_a_function_includes_for_itself_is_made_in_it() -> None:
    """A call that needs no windows makes none of their functions, and one that does has them."""
    admit = load("admit").source
    assert "\nlocal function window_total" not in admit
    route_limits = admit.partition("\nlocal function open_route_limits")[2].partition("\nend\n")[0]
    assert {"window_total", "meter_wait"} <= set(FUNCTION.findall(route_limits))


def test_a_constant_is_that_of_its_own_piece() -> None:
    """Two pieces may each give a name a meaning of their own."""
    admit = load("admit").source
    assert "'EXPIRE', key, 180)" in admit  # LOOKED_AT in traffic.lua
    assert "unpark(200)" in admit  # LOOKED_AT in admit.lua
    assert "(400 * 86400)" in load("finish").source  # KEPT in usage.lua, by way of DAY
