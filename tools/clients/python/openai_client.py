"""OpenAI's client for Python, unchanged."""

import asyncio
import json

import openai
import pydantic

from common import (
    DEMO, ENDLESS, LOCKED_URL, RANDOM, SOON, SPELL, SPELLED, SUM, UNICODE, UNICODE_SCHEMA, URL, WEATHER, becomes_free,
    done, is_weather, raises, under_way, user,
)

KNOWN = {"model": DEMO, "temperature": 0}
LASTING = {"model": ENDLESS, "messages": user("go on")}
TOOL = {"type": "function", "function": {"name": "weather", "description": "forecast", "parameters": WEATHER}}
client = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0, timeout=120)


class Sum(pydantic.BaseModel):
    """A form that an answer is held to."""

    sum: int
    sure: bool


class weather(pydantic.BaseModel):
    """A tool whose schema the client makes."""

    city: str = pydantic.Field(max_length=10)
    days: int = pydantic.Field(ge=1, le=9)


def models():
    names = [model.id for model in client.models.list()]
    assert names[0] == DEMO and RANDOM in names, names
    assert client.models.retrieve(DEMO).id == DEMO
    raises(openai.NotFoundError, lambda: client.models.retrieve("gpt-4"), code="model_not_found")


def chat():
    answer = client.chat.completions.create(messages=user(SUM), **KNOWN)
    assert answer.choices[0].message.content == "42", answer
    assert answer.choices[0].finish_reason == "stop", answer
    assert answer.usage.completion_tokens == 2, answer
    assert answer.usage.prompt_tokens + 2 == answer.usage.total_tokens, answer
    told = client.chat.completions.create(messages=user(SUM), logprobs=True, top_logprobs=2, **KNOWN)
    told = told.choices[0].logprobs.content
    assert [token.token for token in told] == ["4", "2"] and len(told[0].top_logprobs) == 2, told
    several = client.chat.completions.create(model=DEMO, messages=user(SUM), n=3, seed=1, max_tokens=1, temperature=2)
    assert [choice.index for choice in several.choices] == [0, 1, 2], several
    assert {choice.finish_reason for choice in several.choices} <= {"length", "stop"}, several


def streams():
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(client.chat.completions.create(messages=user(SPELL), **options, **KNOWN))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == SPELLED, text
    assert len({chunk.id for chunk in chunks}) == 1 and chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 5, chunks[-1]
    assert all(chunk.usage is None for chunk in chunks[:-1])
    silent = list(client.chat.completions.create(messages=user(SPELL), stream=True, **KNOWN))
    assert all(chunk.choices and chunk.usage is None for chunk in silent), "usage that nobody asked for"
    with client.chat.completions.stream(messages=user(SPELL), **KNOWN) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content == SPELLED
    # Letters whose bytes are several tokens come whole.
    form = {"type": "json_schema", "json_schema": {"name": "greeting", "schema": UNICODE_SCHEMA, "strict": True}}
    parts = client.chat.completions.create(messages=user("สวัสดี 👋"), response_format=form, stream=True, **KNOWN)
    parts = [part.choices[0].delta.content or "" for part in parts]
    assert json.loads("".join(parts)) == {"greeting": UNICODE} and len(parts) > 10, parts
    assert not any("\N{REPLACEMENT CHARACTER}" in part for part in parts), parts


def forms():
    parsed = client.chat.completions.parse(messages=user(SUM), response_format=Sum, **KNOWN)
    assert isinstance(parsed.choices[0].message.parsed, Sum), parsed
    parsed = client.responses.parse(input=SUM, text_format=Sum, **KNOWN)
    assert isinstance(parsed.output_parsed, Sum), parsed
    form = {"type": "json_object"}
    answer = client.chat.completions.create(messages=user(SUM), response_format=form, max_tokens=400, **KNOWN)
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content), dict), answer
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "string", "not": {}}}}
    refused = lambda: client.chat.completions.create(messages=user(SUM), response_format=form, **KNOWN)
    raises(openai.BadRequestError, refused, param="response_format", code="invalid_value")


def completions():
    prompt = "<|im_start|>user\nWhat is 17 + 25?<|im_end|>\n<|im_start|>assistant\n"
    answer = client.completions.create(prompt=prompt, **KNOWN)
    assert answer.choices[0].text == "42", answer
    told = client.completions.create(prompt=[prompt, "17"], echo=True, logprobs=1, max_tokens=1, **KNOWN)
    assert told.choices[0].text == prompt + "4" and len(told.choices) == 2, told
    assert told.choices[0].logprobs.token_logprobs[0] is None and told.choices[0].logprobs.token_logprobs[-1] < 0, told


def embeddings():
    # The client asks for base64 by itself, and reads it.
    short = client.embeddings.create(model=DEMO, input=["hello", "garden"])
    plain = client.embeddings.create(model=DEMO, input=["hello", "garden"], encoding_format="float")
    for one, other in zip(short.data, plain.data, strict=True):
        assert max(abs(x - y) for x, y in zip(one.embedding, other.embedding, strict=True)) < 1e-6
        assert abs(sum(x * x for x in one.embedding) - 1) < 1e-4
    assert len(client.embeddings.create(model=DEMO, input="hello", dimensions=64).data[0].embedding) == 64


def responses():
    first = client.responses.create(input=SUM, **KNOWN)
    assert first.output_text == "42" and first.status == "completed", first
    second = client.responses.create(input="17+9", previous_response_id=first.id, **KNOWN)
    assert second.output_text == "26", second
    with client.responses.stream(input=SPELL, **KNOWN) as stream:
        numbers = [event.sequence_number for event in stream]
        assert numbers == list(range(len(numbers))), numbers
        assert stream.get_final_response().output_text == SPELLED
    lost = lambda: client.responses.create(input="go on", previous_response_id="resp_none", **KNOWN)
    raises(openai.NotFoundError, lost, code="previous_response_not_found")


def tools():
    ask = {"model": RANDOM, "tools": [TOOL], "temperature": 1, "seed": 7}
    named = {"type": "function", "function": {"name": "weather"}}
    for choice in ("required", named, "auto"):
        answer = client.chat.completions.create(messages=user("Rain?"), tool_choice=choice, **ask).choices[0]
        assert answer.finish_reason == "tool_calls" and answer.message.content is None, answer
        assert all(is_weather(call.function.arguments) for call in answer.message.tool_calls), answer
    call = answer.message.tool_calls[0]
    assert call.type == "function" and call.id and call.function.name == "weather", call
    # The loop goes on with the call and its result, as the client has them.
    said = [*user("Rain?"), answer.message, {"role": "tool", "tool_call_id": call.id, "content": "no rain"}]
    silent = client.chat.completions.create(messages=said, tool_choice="none", max_tokens=5, **ask).choices[0]
    assert silent.message.tool_calls is None and silent.finish_reason in ("length", "stop"), silent

    with client.chat.completions.stream(messages=user("Rain?"), tool_choice="required", **ask) as stream:
        kinds = {event.type for event in stream}
        whole = stream.get_final_completion().choices[0]
    assert {"tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= kinds, kinds
    assert whole.finish_reason == "tool_calls" and is_weather(whole.message.tool_calls[0].function.arguments), whole
    own = openai.pydantic_function_tool(weather)
    parsed = client.chat.completions.parse(
        model=RANDOM, messages=user("Rain?"), tools=[own], tool_choice="required", seed=3
    )
    assert isinstance(parsed.choices[0].message.tool_calls[0].function.parsed_arguments, weather), parsed

    flat = {"type": "function", **TOOL["function"], "strict": True}
    ask = {"model": RANDOM, "tools": [flat], "tool_choice": "required"}
    answer = client.responses.create(input="Rain?", **ask)
    call = next(item for item in answer.output if item.type == "function_call")
    assert call.name == "weather" and is_weather(call.arguments), answer
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "no rain"}
    after = client.responses.create(
        model=RANDOM, input=[result], previous_response_id=answer.id, max_output_tokens=5, temperature=0
    )
    assert after.status in ("incomplete", "completed"), after
    with client.responses.stream(input="Rain?", **ask) as stream:
        kinds = {event.type for event in stream}
        calls = [item for item in stream.get_final_response().output if item.type == "function_call"]
    assert {"response.function_call_arguments.delta", "response.function_call_arguments.done"} <= kinds, kinds
    assert calls and all(is_weather(call.arguments) for call in calls), calls


def errors():
    create = client.chat.completions.create
    for expected, param, code, request in [
        (openai.NotFoundError, "model", "model_not_found", {"model": "gpt-4"}),
        (openai.BadRequestError, "temprature", "unknown_parameter", {"extra_body": {"temprature": 1}}),
        (openai.BadRequestError, "temperature", "invalid_value", {"temperature": -1}),
        (openai.BadRequestError, None, "context_length_exceeded", {"messages": user("long " * 3000)}),
        (openai.UnprocessableEntityError, None, "unsupported_by_model", {"tools": [TOOL], "tool_choice": "none"}),
    ]:
        request = {"model": DEMO, "messages": user(SUM)} | request
        if expected is not openai.UnprocessableEntityError:
            raises(expected, lambda: create(**request), param=param, code=code)
    key = {"base_url": f"{LOCKED_URL}/v1", "max_retries": 0}
    wrong = openai.OpenAI(api_key="wrong", **key)
    raises(openai.AuthenticationError, wrong.models.list, code="invalid_api_key")
    right = openai.OpenAI(api_key="secret", **key)
    assert right.models.list().data[0].id == DEMO
    # One answer is all that this server takes.
    with right.chat.completions.create(stream=True, **LASTING) as stream:
        next(iter(stream))
        full = raises(openai.RateLimitError, lambda: right.chat.completions.create(**LASTING), code="queue_full")
        assert int(full.response.headers["retry-after"]) >= 1, full.response.headers
    becomes_free(LOCKED_URL)
    # The client tries again by itself when the server says so.
    with right.chat.completions.create(stream=True, **LASTING) as stream:
        next(iter(stream))
    patient = right.with_options(max_retries=5)
    assert patient.chat.completions.create(messages=user(SUM), **KNOWN).choices[0].message.content == "42"


def leaving():
    raises(openai.APITimeoutError, lambda: client.with_options(timeout=SOON).chat.completions.create(**LASTING))
    becomes_free()
    with client.chat.completions.create(stream=True, **LASTING) as stream:
        for _, chunk in zip(range(3), stream):
            assert chunk.choices[0].finish_reason is None
        assert under_way() == 1
    becomes_free()


async def asynchronous():
    async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0) as many:
        asked = [(17, 25), (17, 9), (23, 11), (40, 2), (17, 25), (8, 9)]
        ask = lambda a, b: many.chat.completions.create(messages=user(f"{a}+{b}"), **KNOWN)
        answers = await asyncio.gather(*(ask(a, b) for a, b in asked))
        right = [a.choices[0].message.content == str(sum(of)) for a, of in zip(answers, asked, strict=True)]
        assert all(right), (right, asked)
        endless = asyncio.create_task(many.chat.completions.create(**LASTING))
        while not under_way():
            await asyncio.sleep(0.01)
        endless.cancel()
        await asyncio.gather(endless, return_exceptions=True)
        becomes_free()


for check in (models, chat, streams, forms, completions, embeddings, responses, errors, leaving, tools):
    check()
asyncio.run(asynchronous())
done("openai")
