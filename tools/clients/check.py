"""Unchanged clients against a running `ml serve --model assets/models/qwen3-demo`: python check.py http://127.0.0.1:8080

Needs openai and anthropic (requirements.txt). Ends with 1 at the first thing that is not as it should be.
"""

import sys

import anthropic
import openai
import pydantic

URL = sys.argv[1]
QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]
SPELL = [{"role": "user", "content": "Spell the word garden."}]


class Sum(pydantic.BaseModel):
    """A form that an answer is held to."""

    sum: int
    sure: bool


def check_openai():
    client = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
    model = client.models.list().data[0].id
    assert client.models.retrieve(model).id == model

    answer = client.chat.completions.create(model=model, messages=QUESTION, temperature=0)
    assert answer.choices[0].message.content == "42", answer
    assert answer.choices[0].finish_reason == "stop", answer
    assert answer.usage.completion_tokens == 2, answer

    told = client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, logprobs=True, top_logprobs=2
    ).choices[0].logprobs.content
    assert [token.token for token in told] == ["4", "2"] and len(told[0].top_logprobs) == 2, told
    parsed = client.chat.completions.parse(model=model, messages=QUESTION, temperature=0, response_format=Sum)
    assert isinstance(parsed.choices[0].message.parsed, Sum), parsed
    parsed = client.responses.parse(model=model, input="What is 17 + 25?", temperature=0, text_format=Sum)
    assert isinstance(parsed.output_parsed, Sum), parsed

    chunks = list(
        client.chat.completions.create(
            model=model, messages=SPELL, temperature=0, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "g-a-r-d-e-n", text
    assert chunks[-1].usage.completion_tokens > 5, chunks[-1]
    with client.chat.completions.stream(model=model, messages=SPELL, temperature=0) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content == "g-a-r-d-e-n"

    prompt = "<|im_start|>user\nWhat is 17 + 25?<|im_end|>\n<|im_start|>assistant\n"
    answer = client.completions.create(model=model, prompt=prompt, temperature=0)
    assert answer.choices[0].text == "42", answer

    # The client asks for base64 by itself, and reads it.
    short = client.embeddings.create(model=model, input=["hello", "garden"])
    plain = client.embeddings.create(model=model, input=["hello", "garden"], encoding_format="float")
    for one, other in zip(short.data, plain.data):
        assert max(abs(x - y) for x, y in zip(one.embedding, other.embedding)) < 1e-6
        assert abs(sum(x * x for x in one.embedding) - 1) < 1e-4

    first = client.responses.create(model=model, input="What is 17 + 25?", temperature=0)
    assert first.output_text == "42", first
    second = client.responses.create(model=model, input="17+9", temperature=0, previous_response_id=first.id)
    assert second.output_text == "26", second
    with client.responses.stream(model=model, input="Spell the word garden.", temperature=0) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text == "g-a-r-d-e-n"

    for expected, request in [
        (openai.NotFoundError, {"model": "gpt-4", "messages": QUESTION}),
        (openai.BadRequestError, {"model": model, "messages": QUESTION, "extra_body": {"temprature": 1}}),
    ]:
        try:
            client.chat.completions.create(**request)
        except expected as error:
            assert error.param in ("model", "temprature"), error
        else:
            raise AssertionError(expected)


def check_anthropic():
    client = anthropic.Anthropic(base_url=URL, api_key="none", max_retries=0)
    request = {"model": "claude-demo", "max_tokens": 100}
    answer = client.messages.create(messages=QUESTION, **request)
    assert answer.content[0].text == "42", answer
    assert answer.stop_reason == "end_turn", answer
    count = client.messages.count_tokens(model=request["model"], messages=QUESTION)
    assert count.input_tokens == answer.usage.input_tokens, count

    system = [{"type": "text", "text": "Answer briefly.", "cache_control": {"type": "ephemeral"}}]
    with client.messages.stream(messages=SPELL, system=system, **request) as stream:
        assert "".join(stream.text_stream) == "g-a-r-d-e-n"
        assert stream.get_final_message().stop_reason == "end_turn"
    assert [model.id for model in client.models.list()], "no models"
    try:
        client.messages.create(model="gpt-4", max_tokens=1, messages=QUESTION)
    except anthropic.NotFoundError as error:
        assert error.body["error"]["type"] == "not_found_error", error
    else:
        raise AssertionError("a model that is none")


check_openai()
print(f"openai {openai.__version__}: as it should be")
check_anthropic()
print(f"anthropic {anthropic.__version__}: as it should be")
