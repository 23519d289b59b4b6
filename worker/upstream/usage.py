"""What an answer used and cost."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

from penstock.settings import TIER_FACTORS

if TYPE_CHECKING:
    from penstock.settings import Prices

CHARACTERS_PER_TOKEN = 4
"""The usual rule of thumb for English text, for answers that end before their usage is known."""


def with_cost(usage: dict[str, Any], prices: Prices, tier: Any = None) -> dict[str, Any]:
    """The usage with `total_tokens`, and `estimated_cost` in USD, computed where it is missing."""
    prompt = _count(usage.get("prompt_tokens"))
    completion = _count(usage.get("completion_tokens"))
    filled = {**usage, "prompt_tokens": prompt, "completion_tokens": completion}
    if not isinstance(usage.get("total_tokens"), int):
        filled["total_tokens"] = prompt + completion
    if not isinstance(usage.get("estimated_cost"), int | float):
        details = usage.get("prompt_tokens_details")
        cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0
        filled["estimated_cost"] = _cost(prompt, min(cached, prompt), completion, prices, tier)
    return filled


def _cost(prompt: int, cached: int, completion: int, prices: Prices, tier: Any) -> float:
    """USD; rounded where floating point ends and prices have long ended."""
    cost = (prompt - cached) * prices.input + cached * prices.cached + completion * prices.output
    factor = TIER_FACTORS.get(tier, 1.0) if isinstance(tier, str) else 1.0
    return round(cost * factor / 1e6, 12)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def estimated(*, prompt_characters: int, characters: int, pieces: int) -> dict[str, Any]:
    """Token counts for an answer whose usage never came; `estimated` says so.

    Args:
        prompt_characters: of the request's messages.
        characters: of the answer's text.
        pieces: how many deltas it came in. A delta is at least one token, so this counts where
            tokens are short; it stays low where a server puts several tokens into one delta.
    """
    return {
        "prompt_tokens": ceil(prompt_characters / CHARACTERS_PER_TOKEN),
        "completion_tokens": max(pieces, ceil(characters / CHARACTERS_PER_TOKEN)),
        "estimated": True,
    }
