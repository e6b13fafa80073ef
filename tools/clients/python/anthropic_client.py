"""Anthropic's client for Python, unchanged."""

import json

import anthropic

from common import (
    ENDLESS, LOCKED_URL, RANDOM, SOON, SPELL, SPELLED, SUM, UNICODE, UNICODE_SCHEMA, URL, WEATHER, becomes_free, done,
    is_weather, raises, under_way, user,
)

client = anthropic.Anthropic(base_url=URL, api_key="none", max_retries=0, timeout=120)
#: Any such name is the first model.
REQUEST = {"model": "claude-demo", "max_tokens": 100}
LASTING = {"model": ENDLESS, "max_tokens": 1_000_000, "messages": user("go on")}
TOOL = {"name": "weather", "description": "forecast", "input_schema": WEATHER}


def messages():
    answer = client.messages.create(messages=user(SUM), **REQUEST)
    assert answer.content[0].text == "42", answer
    assert answer.stop_reason == "end_turn", answer
    count = client.messages.count_tokens(model=REQUEST["model"], messages=user(SUM))
    assert count.input_tokens == answer.usage.input_tokens, count
    system = [{"type": "text", "text": "Answer briefly.", "cache_control": {"type": "ephemeral"}}]
    with client.messages.stream(messages=user(SPELL), system=system, **REQUEST) as stream:
        assert "".join(stream.text_stream) == SPELLED
        final = stream.get_final_message()
    assert final.stop_reason == "end_turn" and final.usage.output_tokens > 5, final
    stopped = client.messages.create(messages=user(SPELL), stop_sequences=["-d"], **REQUEST)
    assert (stopped.content[0].text, stopped.stop_reason, stopped.stop_sequence) == ("g-a-r", "stop_sequence", "-d")
    short = client.messages.create(model="claude-demo", max_tokens=1, messages=user(SPELL))
    assert short.stop_reason == "max_tokens", short
    form = {"format": {"type": "json_schema", "schema": UNICODE_SCHEMA}}
    with client.messages.stream(messages=user("สวัสดี 👋"), output_config=form, **REQUEST | {"max_tokens": 400}) as stream:
        parts = list(stream.text_stream)
    assert json.loads("".join(parts)) == {"greeting": UNICODE} and len(parts) > 10, parts
    names = [model.id for model in client.models.list()]
    assert RANDOM in names, names


def tools():
    ask = {"model": RANDOM, "max_tokens": 1000, "tools": [TOOL]}
    for choice in ({"type": "any"}, {"type": "tool", "name": "weather"}, {"type": "auto"}):
        answer = client.messages.create(messages=user("Rain?"), tool_choice=choice, **ask)
        call = answer.content[-1]
        assert answer.stop_reason == "tool_use" and call.type == "tool_use", answer
        assert call.name == "weather" and is_weather(call.input), answer
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "no rain"}
    said = [*user("Rain?"), {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    after = client.messages.create(model=RANDOM, max_tokens=5, messages=said)
    assert after.stop_reason in ("max_tokens", "end_turn"), after
    with client.messages.stream(messages=user("Rain?"), tool_choice={"type": "any"}, **ask) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_message()
    assert {"input_json", "content_block_stop"} <= kinds and final.stop_reason == "tool_use", (kinds, final)
    assert is_weather(final.content[-1].input), final
    one = {"type": "any", "disable_parallel_tool_use": True}
    answer = client.messages.create(messages=user("Rain?"), tool_choice=one, **ask)
    assert [block.type for block in answer.content].count("tool_use") == 1, answer
    counted = client.messages.count_tokens(model=RANDOM, messages=user("Rain?"), tools=[TOOL])
    assert counted.input_tokens > client.messages.count_tokens(model=RANDOM, messages=user("Rain?")).input_tokens


def errors():
    create = client.messages.create
    unknown = lambda: create(model="gpt-4", max_tokens=1, messages=user(SUM))
    error = raises(anthropic.NotFoundError, unknown)
    assert error.body["error"]["type"] == "not_found_error", error
    for request in ({"max_tokens": 0}, {"extra_body": {"temprature": 1}}, {"messages": user("long " * 3000)}):
        refused = lambda: create(**REQUEST | {"messages": user(SUM)} | request)
        error = raises(anthropic.BadRequestError, refused)
        assert error.body["error"]["type"] == "invalid_request_error", error
    key = {"base_url": LOCKED_URL, "max_retries": 0}
    wrong = anthropic.Anthropic(api_key="wrong", **key)
    raises(anthropic.AuthenticationError, lambda: wrong.messages.create(messages=user(SUM), **REQUEST))
    right = anthropic.Anthropic(api_key="secret", **key)
    # One answer is all that this server takes.
    with right.messages.stream(**LASTING) as stream:
        next(iter(stream))
        full = lambda: right.messages.create(messages=user(SUM), **REQUEST)
        error = raises(anthropic.RateLimitError, full)
        assert error.body["error"]["type"] == "rate_limit_error", error
    becomes_free(LOCKED_URL)


def leaving():
    raises(anthropic.APITimeoutError, lambda: client.with_options(timeout=SOON).messages.create(**LASTING))
    becomes_free()
    with client.messages.stream(**LASTING) as stream:
        next(iter(stream.text_stream))
        assert under_way() >= 1
    becomes_free()


for check in (messages, errors, leaving, tools):
    check()
done("anthropic")
