"""Deltas: what an answer grows by, and how neighbouring ones are joined into one.

Joining is associative and "says nothing" is its neutral element, so deltas may be grouped in any
way without changing the answer. The rules, for a field at any depth:

* `null`, `""`, `[]` and an object of only these say nothing;
* text is concatenated, an unknown field's too: losing some would be worse than repeating some;
* `role`, `id` and `type` are names, not text: the first one stays;
* `tool_calls` are joined call by call, by their `index`; other lists are concatenated;
* objects are joined field by field;
* numbers and booleans: the last one wins;
* a field that changes its kind keeps only what it has of the richest kind, in this order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict

_NAMES = frozenset({"role", "id", "type"})


class ChoiceDelta(TypedDict):
    """What one choice grows by, as it stands in a `delta` event."""

    index: int
    delta: dict[str, Any]


class Deltas:
    """Everything some deltas say, by choice. False while that is nothing.

    The assembler keeps a whole answer in one; the relay what was not yet written in another.

    Attributes:
        size: about how many characters of text it holds.
    """

    __slots__ = ("_choices", "size")

    def __init__(self, deltas: Iterable[ChoiceDelta] = ()) -> None:
        self._choices: dict[int, dict[str, Any]] = {}
        self.size = 0
        self.add(deltas)

    def __bool__(self) -> bool:
        return bool(self._choices)

    def add(self, deltas: Iterable[ChoiceDelta]) -> None:
        """Join these on at the end; keeps nothing that the caller could change."""
        for choice in deltas:
            index = choice["index"]
            node = self._choices.get(index)
            if node is None:
                node = self._choices[index] = {}
            self.size += join(node, choice["delta"])

    def joined(self) -> list[ChoiceDelta]:
        """One delta a choice, by index; joined again, they say the same."""
        return [
            {"index": index, "delta": finished(node)}
            for index, node in sorted(self._choices.items())
        ]

    def take(self) -> list[ChoiceDelta]:
        """What `joined` gives, and start again from nothing."""
        deltas = self.joined()
        self._choices = {}
        self.size = 0
        return deltas


class _Text(list[str]):
    """Text in pieces: joined once at the end, not copied for each token."""

    __slots__ = ()


class _Calls(dict[int, dict[str, Any]]):
    """Tool calls by index."""

    __slots__ = ()


_RICHNESS: dict[type, int] = {
    type(None): 0,
    **dict.fromkeys((bool, int, float), 1),
    **dict.fromkeys((str, _Text), 2),
    list: 3,
    _Calls: 4,
    dict: 5,
}


def join(node: dict[str, Any], fragment: dict[str, Any]) -> int:
    """Join a fragment's fields into a node; returns how many characters of text that were.

    A node is a dict whose texts and tool calls are kept in growing form: read it with `finished`.
    """
    size = 0
    for field, value in fragment.items():
        held = node.get(field)
        if type(held) is _Text and type(value) is str:  # nearly always
            held.append(value)
            size += len(value)
        elif type(held) is dict and type(value) is dict:
            size += join(held, value)
        elif held is not value and not says_nothing(value):  # an index is said with each fragment
            size += _join_field(node, field, held, value)
    return size


def finished(node: Any) -> Any:
    """A node as plain JSON data, in new containers."""
    if type(node) is _Text:
        return "".join(node)
    if type(node) is _Calls:
        return [finished(call) for _, call in sorted(node.items())]
    if type(node) is dict:
        return {field: finished(value) for field, value in node.items()}
    return list(node) if type(node) is list else node


def says_nothing(value: Any) -> bool:
    """Whether a field with this value could as well be left out."""
    if type(value) is dict:
        return all(map(says_nothing, value.values()))
    return value is None or value == "" or value == []


def _join_field(node: dict[str, Any], field: str, held: Any, value: Any) -> int:
    """Join a value that says something into a field that holds `held`."""
    kind = _kind(field, value)
    if kind is not type(held):
        if _RICHNESS[kind] < _RICHNESS[type(held)]:
            return 0
        held = node[field] = kind()
    if kind is dict:
        return join(held, value)
    if kind is _Calls:
        return sum([join(held.setdefault(call["index"], {}), call) for call in value])
    if kind is _Text:
        held.append(value)
        return len(value)
    if kind is list:
        held.extend(value)
    elif kind is not str or not held:  # of numbers the last, of names the first
        node[field] = value
    return 0


def _kind(field: str, value: Any) -> type:
    """The kind of node that holds values like this one."""
    kind = type(value)
    if kind is str:
        return str if field in _NAMES else _Text
    if kind is list and field == "tool_calls" and _are_calls(value):
        return _Calls
    return kind


def _are_calls(values: list[Any]) -> bool:
    for value in values:
        if type(value) is not dict or type(value.get("index")) is not int:
            return False
    return True
