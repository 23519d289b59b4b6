"""What the simulator will say is a pure function of the question."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.simulator import Script, ToolCall, predict
from ops.simulator.words import tokenize

TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {}}}]


def ask(text: str = "hello", **fields: Any) -> dict[str, Any]:
    """A chat request."""
    return {"messages": [{"role": "user", "content": text}], **fields}


@given(st.text())
def test_tokens_joined_are_the_text(text: str) -> None:
    """Cutting text into tokens loses and adds nothing."""
    assert "".join(tokenize(text)) == text


@given(st.text(), st.integers(0, 50), st.integers(), st.integers(1, 3))
def test_the_same_question_gets_the_same_answer(text: str, tokens: int, seed: int, n: int) -> None:
    """Ids, times, texts and usage depend on seed and request alone, in any notation of its JSON."""
    request = ask(text, n=n, simulate={"tokens": tokens, "reasoning": 3})
    turned = dict(reversed(request.items()))
    assert predict(request, seed=seed) == predict(msgspec.json.encode(turned), seed=seed)


@pytest.mark.parametrize("other", [{"seed": 1}, {"model": "another"}, {"simulate": {"seed": 1}}])
def test_another_question_gets_another_answer(other: dict[str, Any]) -> None:
    """Request seed, model and script seed each change what is said."""
    script = {"tokens": 50, **other.get("simulate", {})}
    usual = predict(ask(simulate={"tokens": 50}))
    changed = predict(ask(**{**other, "simulate": script}))
    assert usual.id != changed.id
    assert usual.messages != changed.messages


def test_the_servers_seed_changes_the_answer() -> None:
    """Two simulators with different seeds do not say the same."""
    script = Script(tokens=50)
    assert predict(ask(), script=script).id != predict(ask(), script=script, seed=1).id


def test_streaming_or_not_is_the_same_answer() -> None:
    """A prediction made from a job's request holds for the stream the worker asks for."""
    streaming = ask(stream=True, stream_options={"include_usage": True})
    assert predict(ask()) == predict(streaming)


def test_without_a_script_it_introduces_itself() -> None:
    """The default answer tells a person that it is simulated, in demo length."""
    answer = predict(ask("a secret"))
    message = answer.messages[0]
    assert "simulated" in message["content"]
    assert "secret" not in message["content"]
    assert message["reasoning_content"]
    assert 60 <= answer.usage["completion_tokens"] <= 120


def test_choices_differ() -> None:
    """The n choices of a request are n texts."""
    messages = predict(ask(n=3, simulate={"tokens": 50})).messages
    assert len({message["content"] for message in messages}) == 3


def test_the_exact_text_reasoning_and_refusal_are_said() -> None:
    """Texts in a script come out as they are."""
    script = Script(text="an </s> answer", reasoning="a thought\u2028here", refusal="no")
    assert predict(ask(), script=script).messages == [
        {
            "role": "assistant",
            "content": "an </s> answer",
            "reasoning_content": "a thought\u2028here",
            "refusal": "no",
        }
    ]


@pytest.mark.parametrize("shred", [False, True])
def test_tool_calls_come_out_whole(shred: bool) -> None:
    """However a call is cut into fragments, the predicted message has it as it was given."""
    call = ToolCall(name="get_weather", arguments='{"city": "Zürich 漢字"}', id="call_1")
    choice = predict(ask(), script=Script(tool_calls=(call, call), shred=shred)).choices[0]
    function = {"name": call.name, "arguments": call.arguments}
    assert choice.tool_calls == [{"id": "call_1", "type": "function", "function": function}] * 2
    assert choice.content is None
    assert choice.finish_reason == "tool_calls"


def test_made_up_calls_are_of_offered_tools() -> None:
    """A count of tool calls names the request's tools and carries JSON arguments."""
    calls = predict(ask(tools=TOOLS, simulate={"tool_calls": 2})).choices[0].tool_calls
    assert [call["function"]["name"] for call in calls] == ["get_weather"] * 2
    assert all(msgspec.json.decode(call["function"]["arguments"]) for call in calls)
    assert len({call["id"] for call in calls}) == 2


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_the_budget_cuts_with_length(field: str) -> None:
    """An answer longer than the budget ends there, and says so."""
    answer = predict(ask(**{field: 5}, simulate={"tokens": 9}))
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage["completion_tokens"] == 5


def test_usage_costs_what_the_price_list_says() -> None:
    """Prompt, cached and completion tokens are priced apart, and the tier changes the sum."""
    request = ask("x" * 3_970, service_tier="flex")
    usage = predict(request, script=Script(tokens=200, cached_tokens=400)).usage
    assert usage == {
        "prompt_tokens": 1000,
        "completion_tokens": 200,
        "total_tokens": 1200,
        "prompt_tokens_details": {"cached_tokens": 400},
        "estimated_cost": pytest.approx(0.8 * (600 * 0.10 + 400 * 0.04 + 200 * 0.50) / 1e6),
    }


def test_attempts_vary_only_where_asked() -> None:
    """A second attempt says the same, unless the script wants it to be told apart."""
    same, vary = Script(tokens=20), Script(tokens=20, vary=True)
    assert predict(ask(), script=same) == predict(ask(), script=same, attempt=2)
    assert predict(ask(), script=vary) != predict(ask(), script=vary, attempt=2)
