"""Lines of a TOML text, against what tomllib reads from it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from penstock.toml_position import Path, positions

PLAIN = "abc_-1."
ANY = "a b.#'=[]{},\"\\\né"

keys = st.one_of(
    st.text("ab-1", min_size=1, max_size=3),
    st.text(ANY, max_size=4).map(json.dumps),
    st.text('a b.#=[]{},"', max_size=4).map(lambda text: f"'{text}'"),
)
spaces = st.sampled_from(["", " ", "\t"])
breaks = st.sampled_from(["", "\n", " # [no.table] = '''\n", "\n\n  "])
strings = st.one_of(
    st.text(ANY, max_size=6).map(lambda text: json.dumps(text)),
    st.text('a b.#=[]{},"', max_size=6).map(lambda text: f"'{text}'"),
    st.text("a\n#[]=\"'", max_size=8).map(lambda text: f"'''{text.replace(chr(39) * 3, '')}b'''"),
    st.text("a\n#[]='", max_size=8).map(lambda text: f'"""{text}\\""""""'),
    st.just('"""\\\n   [a]\n"""'),
)
scalars = st.one_of(
    strings,
    st.sampled_from(["1", "-0.5e3", "true", "inf", "1979-05-27 07:32:00", "0x_f".replace("_", "")]),
)


@st.composite
def arrays(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    """Over several lines, maybe, with comments and a last comma."""
    found = draw(st.lists(values, max_size=3))
    inner = ",".join(draw(breaks) + value + draw(breaks) for value in found)
    comma = draw(st.sampled_from(["", ","])) if found else ""
    return f"[{inner}{comma}{draw(breaks)}]"


@st.composite
def inline_tables(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    """On one line, but for strings and arrays in it."""
    pairs = draw(st.dictionaries(keys, values, max_size=3)).items()
    return "{" + ", ".join(f"{key}{draw(spaces)}={draw(spaces)}{v}" for key, v in pairs) + "}"


values = st.recursive(scalars, lambda inner: arrays(inner) | inline_tables(inner), max_leaves=6)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Tables, arrays of tables and pairs in any order; some of them are no TOML."""
    lines = []
    for _ in range(draw(st.integers(1, 7))):
        path = f"{draw(spaces)}.{draw(spaces)}".join(draw(st.lists(keys, min_size=1, max_size=3)))
        kind = draw(st.sampled_from(["[{}]", "[[{}]]", "{} = ", "{}= ", "# {}"]))
        line = kind.format(path.replace("\n", " ") if kind[0] == "#" else path)
        value = draw(values) if "=" in kind else ""
        lines.append(
            f"{draw(spaces)}{line}{value}{draw(spaces)}{draw(st.sampled_from(['', '# ]']))}"
        )
        lines += draw(st.sampled_from([[], [""], ["# x = [", ""]]))
    return draw(st.sampled_from(["\n", "\r\n"])).join(lines)


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every path there is in what tomllib read."""
    if path:
        yield path
    inside = value.items() if isinstance(value, dict) else ()
    inside = enumerate(value) if isinstance(value, list) else inside
    for key, inner in inside:
        yield from paths(inner, (*path, key))


def read_or_skip(text: str) -> dict[str, Any]:
    """What tomllib reads; other texts prove nothing, and hypothesis complains if most are such."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        reject()


@given(documents())
def test_every_path_is_found_and_no_other(text: str) -> None:
    """Whatever tomllib finds in a text has a line, and nothing else has."""
    read = read_or_skip(text)
    found = positions(text)
    assert set(found) == set(paths(read))
    assert all(1 <= line <= text.count("\n") + 1 for line in found.values())


@given(documents())
def test_lines_are_counted_through_whatever_comes_before(text: str) -> None:
    """A table behind any text stands on the line after it."""
    whole = f"{text}\n[last.table]\nkey = 1"
    read_or_skip(whole)
    lines = positions(whole)
    assert lines["last",] == lines["last", "table"] == text.count("\n") + 2
    assert lines["last", "table", "key"] == text.count("\n") + 3


EXAMPLE = '''\
# a = 1
max_attempts = 3
text = """
[routes.fast]
concurrency = 1"""   # not a table
"quoted key".'it''s' = 1

[routes.default]
timeouts = { connect = 1, total = 2 }
prices.input = 1
prices . output = 2

[routes."fast"]   # [routes.slow]
fallback = [
  "default",   # ]
  'other',
]
concurrency = 0
[[hooks]]
name = "one"
[[hooks]]
name = "two"
[hooks.inner]
deep = [[1], [2,
3]]
'''.replace("it''s", "it.s")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("max_attempts",), 2),
        (("text",), 3),
        (("quoted key",), 6),
        (("quoted key", "it.s"), 6),
        (("routes",), 8),
        (("routes", "default"), 8),
        (("routes", "default", "timeouts", "total"), 9),
        (("routes", "default", "prices"), 10),
        (("routes", "default", "prices", "output"), 11),
        (("routes", "fast"), 13),
        (("routes", "fast", "fallback"), 14),
        (("routes", "fast", "fallback", 1), 16),
        (("routes", "fast", "concurrency"), 18),
        (("hooks",), 19),
        (("hooks", 1, "name"), 22),
        (("hooks", 1, "inner", "deep"), 24),
        (("hooks", 1, "inner", "deep", 1, 1), 25),
    ],
)
def test_lines_are_those_an_editor_shows(path: Path, line: int) -> None:
    """Tables, dotted keys, inline tables and arrays of a text as people write it."""
    assert tomllib.loads(EXAMPLE)
    assert positions(EXAMPLE)[path] == line
    assert positions(EXAMPLE.replace("\n", "\r\n"))[path] == line
