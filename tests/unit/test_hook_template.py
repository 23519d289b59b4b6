"""Templates over strangers' payloads: what they may say, and what they may not do."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest

from producers.hooks.template import (
    MAX_OUTPUT,
    MAX_TURNS,
    Expression,
    NoTemplate,
    Template,
    TemplateFailed,
)

ISSUE = {
    "action": "opened",
    "issue": {
        "title": "It broke {{ 7 * 7 }}", "body": None, "labels": [{"name": "a"}, {"name": "b"}],
    },
    "items": [1, 2],
    "many": list(range(MAX_TURNS + 1)),
    "big": "x" * (MAX_OUTPUT // 2),
}  # fmt: skip


def render(source: str, **payload: Any) -> str:
    values = {"payload": payload or ISSUE, "headers": {"x-event": "issues"}}
    return Template(source, "hooks.h").render(values)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ payload.issue.title }}", "It broke {{ 7 * 7 }}"),
        ("[{{ payload.issue.body }}]", "[]"),
        ("{{ payload.issue.labels | map(attribute='name') | join(', ') }}", "a, b"),
        ("{% for l in payload.issue.labels %}{{ loop.index }}{{ l.name }}{% endfor %}", "1a2b"),
        ("{{ payload.items | length }}", "2"),
        ("{{ payload.nothing | default('none') }}", "none"),
        ("{{ headers['x-event'] }} {{ 2 * 3 }}", "issues 6"),
        ("  {{ payload.issue.labels | tojson }} ", '[{"name": "a"}, {"name": "b"}]'),
    ],
)  # fmt: skip
def test_a_template_says_what_the_payload_holds(source: str, text: str) -> None:
    """Fields, null, filters and loops; what a payload says is text and no template."""
    assert render(source) == text


@pytest.mark.parametrize(
    "source",
    [
        "{{ payload.nothing }}",
        "{{ payload.issue.nothing.more }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ payload.__class__.__init__.__globals__ }}",
        "{{ payload|attr('__class__') }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ self._TemplateReference__context }}",
        "{{ payload.update({}) }}",
        "{{ payload.many.append(1) }}",
        "{% for i in payload.many %}{% endfor %}",
        "{% for i in range(200) %}{% for j in range(200) %}{% endfor %}{% endfor %}",
        "{% macro m(n) %}{{ m(n - 1) }}{{ m(n - 1) }}{% endmacro %}{{ m(900) }}",
        "{{ payload.big }}{{ payload.big }}{{ payload.action }}",
        "{{ 'x' * 1000000000 }}",
        "{{ 10 ** 1000000 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ range(10000000) | list }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{{ payload.action / 0 }}",
        "{{ payload.action.title }}",
    ],
)
def test_a_template_that_does_too_much_fails_soon(source: str) -> None:
    """What the payload lacks, the sandbox forbids, or takes too long is an error of one line."""
    began = time.monotonic()
    with pytest.raises(TemplateFailed) as error:
        render(source)
    assert time.monotonic() - began < 2
    assert str(error.value).startswith("hooks.h: ")
    assert "broke" not in str(error.value)


NUMBERS = list(range(2_000_000))
WORDS = ("word " * 1_600_000, "www.x.y " * 1_000_000, "<b>" * 2_700_000, "\n" * 8_000_000)
NAMES = ["www.x.y " * 100] * 9_999
"""Payloads of about 8 MB, each dear for some filter."""


@pytest.mark.parametrize(
    "source",
    [
        "numbers | sort", "numbers | unique | list", "numbers | groupby('x')", "numbers | list",
        "numbers | map('string') | list", "numbers | map('string') | join", "numbers | sum",
        "numbers | select('odd') | list", "numbers | batch(3) | list", "numbers | pprint",
        "numbers | max", "numbers | reverse | list", "[numbers] | pprint", "[numbers] | urlencode",
        "names | map('urlize') | join", "names | map('wordwrap') | list", "nested | pprint",
        "words[0] | urlize", "words[1] | urlize", "words[0] | wordwrap", "words[0] | title",
        "words[2] | striptags", "words[0] | wordcount", "words[0] | urlencode", "words[3] | indent",
        "words[0] | capitalize", "words[0] | list", "words[0] | forceescape", "words[0] | truncate",
        "words[0] | replace('w', words[0])", "words[0].replace('w', words[0])",
        "'' | center(1000000000)",
        "numbers | join(words[0])", "words[0].join(names)", "words[3].expandtabs(1000)",
        "'a'.ljust(1000000000)", "'%1000000000d' | format(1)", "'{:1000000000}'.format(1)",
        "'{:{w}}'.format(1, w=1000000000)", "'%*d' | format(1000000000, 1)",
        "[1] | batch(10000000)",
    ],
)  # fmt: skip
def test_no_filter_runs_for_long_over_a_large_payload(source: str) -> None:
    """A stranger may send 8 MiB: a harmless template fails over it, within the bound on CPU."""
    values = {"numbers": NUMBERS, "words": WORDS, "names": NAMES, "nested": [{"a": NUMBERS}]}
    sets = "".join(f"{{% set {name} = payload.{name} %}}" for name in values)
    began = time.thread_time()
    with contextlib.suppress(TemplateFailed):
        render(sets + f"{{{{ ({source}) | string | length }}}}", **values)
    assert time.thread_time() - began < 0.6


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ payload.large | tojson | length }}", "1000002"),
        ("{{ payload.large | trim | length }}", "1000000"),
        ("{{ payload.large[:100] | title | length }}", "100"),
        ("{{ payload.large | default('none') | length }}", "1000000"),
        ("{{ payload.list | map(attribute='n') | sort(reverse=true) | first }}", "499"),
        ("{{ 'a-b'.replace('-', '+') }} {{ 'x' | center(5) }}|{{ '%05.1f' | format(2.5) }}",
         "a+b   x  |002.5"),
    ],
)  # fmt: skip
def test_bounds_do_not_stand_in_the_way(source: str, text: str) -> None:
    """What is cheap takes a large payload, and what is dear an ordinary one."""
    assert render(source, large="x" * 1_000_000, list=[{"n": n} for n in range(500)]) == text


@pytest.mark.parametrize(
    ("source", "holds"),
    [
        ("payload.action == 'opened'", True),
        ("payload.action == 'opened' and headers['x-event'] == 'push'", False),
        ("payload.nothing.at.all", False),
        ("payload.issue.labels | selectattr('name', 'equalto', 'b') | list", True),
        ("not headers['x-other']", True),
    ],
)
def test_a_filter_takes_what_is_not_there_for_false(source: str, holds: bool) -> None:
    """So that one filter fits every kind of event a sender has."""
    values = {"payload": ISSUE, "headers": {"x-event": "issues"}}
    assert Expression(source, "hooks.h.filter").holds(values) is holds


def test_a_filter_that_fails_says_so() -> None:
    """Neither true nor false: the delivery is refused, and the hook's owner sees why."""
    with pytest.raises(TemplateFailed, match=r"hooks\.h\.filter: "):
        Expression("payload.action > 5", "hooks.h.filter").holds({"payload": ISSUE})


@pytest.mark.parametrize("source", ["{{ payload", "{% for %}", "{{ x | nothing }}", "{% endfor %}"])
def test_what_is_no_template_is_refused_at_the_start(source: str) -> None:
    """The error says why, and in which line of the template."""
    with pytest.raises(NoTemplate, match=r"^is no template: .* in its line 1$"):
        Template(source, "hooks.h")
    with pytest.raises(NoTemplate, match=r"^is no template: "):
        Expression("payload.", "hooks.h")


@pytest.mark.parametrize(
    "source", ["paylod.action == 'a'", "payload.a and header.b", "x", "lipsum.a"]
)
def test_a_name_that_is_never_there_is_refused_at_the_start(source: str) -> None:
    """In a filter it would be false for ever, and nobody would hear of it."""
    with pytest.raises(NoTemplate, match=r"there are payload and headers$"):
        Expression(source, "hooks.h.filter")
    with pytest.raises(NoTemplate, match=r"there are payload and headers$"):
        Template(f"{{{{ {source} }}}}", "hooks.h")
