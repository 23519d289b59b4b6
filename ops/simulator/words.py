"""What the simulator has to say, and how text is cut into tokens."""

from __future__ import annotations

import re

_PLAIN = (
    "the",
    "of",
    "a",
    "water",
    "river",
    "gate",
    "pipe",
    "turbine",
    "flow",
    "pressure",
    "valve",
    "meter",
    "lake",
    "dam",
    "current",
    "power",
    "rises",
    "falls",
    "turns",
    "opens",
    "closes",
    "holds",
    "carries",
    "through",
    "under",
    "over",
    "into",
    "with",
    "and",
    "or",
    "but",
    "then",
    "slowly",
    "quickly",
    "always",
    "never",
    "one",
    "two",
    "three",
    "first",
    "last",
    "small",
    "great",
    "clear",
    "cold",
    "warm",
    "bright",
    "deep",
    "every",
    "each",
    "other",
    "same",
    "new",
    "old",
)

_HARD = (
    " café",
    " naïve",
    " Zürich",
    " 漢字",
    "漢",
    " Привет",
    " שלום",
    " 🙂",
    " 👩‍👩‍👧‍👦",
    " é",
    "\u2028",
    "\u2029",
    "\u0085",
    "\u00a0",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    "\x1f",
    ' "quoted"',
    " back\\slash",
    " data:",
    " [DONE]",
    " {}",
    ",",
    ".",
)
"""What readers of streams trip over: long characters, line ends that are none, escapes."""

VOCABULARY = tuple(f" {word}" for word in _PLAIN) + _HARD
"""Tokens of made-up text, with the space in front that real tokens have."""

INTRODUCTION = (
    "Hello! This answer comes from Penstock's simulated model: no real language model was asked, "
    "nothing left this machine, and nothing was charged. ",
    "What you are watching is real, though. Your request went through Redis to a Celery worker, "
    "the worker opened a streaming connection, and every few words of this text came back to you "
    "as an event while it was being written. ",
    "{closing} ✓",
)

CLOSINGS = (
    "Point PENSTOCK_UPSTREAM_URL at a real endpoint, and the same path carries real answers.",
    "Stop a worker in the middle of a sentence, and another one takes the job over within seconds.",
    "Open a second reader at any time: it sees the same text, from the first word on.",
)

THOUGHT = "Somebody is trying out the simulator. I will say what I am and keep it short."

_TOKEN = re.compile(r"\s*\S{1,16}|\s+")


def tokenize(text: str) -> list[str]:
    """Cut text into tokens: up to 16 characters of a word with the white space before it.

    The tokens joined are the text. The rule is the simulator's own; no tokenizer is imitated.
    """
    return _TOKEN.findall(text)


def introduction(variant: int) -> str:
    """The text for a person who asked without a script."""
    return "".join(INTRODUCTION).format(closing=CLOSINGS[variant % len(CLOSINGS)])
