"""LangChain's client of OpenAI's API, unchanged: forms of answers by each of its ways, and tools."""

import asyncio
import os

# Nothing is told to anybody.
os.environ["LANGSMITH_TRACING"] = "false"

import pydantic
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from common import DEMO, RANDOM, SPELL, SPELLED, SUM, URL, becomes_free, done

server = {"base_url": f"{URL}/v1", "api_key": "none", "max_retries": 0, "timeout": 120}
demo = ChatOpenAI(model=DEMO, temperature=0, **server)
random = ChatOpenAI(model=RANDOM, temperature=1, seed=7, **server)


class Sum(pydantic.BaseModel):
    """The sum of two numbers."""

    sum: int = pydantic.Field(ge=0, le=999)
    sure: bool


@tool
def weather(city: str, days: int) -> str:
    """The forecast of a city."""
    return f"no rain in {city} for {days} days"


def chats():
    answer = demo.invoke([SystemMessage("Answer briefly."), HumanMessage(SUM)])
    assert answer.content == "42" and answer.response_metadata["finish_reason"] == "stop", answer
    assert answer.usage_metadata["output_tokens"] == 2, answer
    parts = list(demo.stream(SPELL, stream_usage=True))
    assert "".join(part.content for part in parts) == SPELLED and len(parts) > 5, parts
    assert sum(part.usage_metadata["output_tokens"] for part in parts if part.usage_metadata) > 5, parts
    asked = [(17, 25), (17, 9), (40, 2)]
    answers = asyncio.run(demo.abatch([f"{a}+{b}" for a, b in asked]))
    assert [answer.content for answer in answers] == [str(sum(of)) for of in asked], answers
    newer = ChatOpenAI(model=DEMO, temperature=0, use_responses_api=True, **server)
    assert newer.invoke(SUM).text == "42"


def forms():
    for method, model in (("json_schema", demo), ("function_calling", random)):
        answer = model.with_structured_output(Sum, method=method, include_raw=True).invoke(SUM)
        assert isinstance(answer["parsed"], Sum) and answer["parsing_error"] is None, (method, answer)
    # Where other properties are allowed, the demo model goes on inventing them.
    schema = {"title": "Sum", "description": "a sum", **Sum.model_json_schema(), "additionalProperties": False}
    answer = demo.with_structured_output(schema, method="json_schema").invoke(SUM)
    assert set(answer) == {"sum", "sure"}, answer
    # The way that LangChain chooses by itself.
    assert isinstance(demo.with_structured_output(Sum).invoke(SUM), Sum)


def tools():
    for choice in ("any", "weather", "auto"):
        called = random.bind_tools([weather], tool_choice=choice).invoke("Rain?")
        assert called.tool_calls and called.tool_calls[0]["name"] == "weather", (choice, called)
        assert not called.invalid_tool_calls, called
    said = [HumanMessage("Rain?"), called]
    said += [weather.invoke(call) for call in called.tool_calls]
    assert all(isinstance(message, ToolMessage) for message in said[2:]), said
    after = random.bind(max_tokens=5).invoke(said)
    assert isinstance(after, AIMessage) and not after.tool_calls, after
    whole = None
    for part in random.bind_tools([weather], tool_choice="any").stream("Rain?"):
        whole = part if whole is None else whole + part
    assert whole.tool_calls and set(whole.tool_calls[0]["args"]) == {"city", "days"}, whole


def embeddings():
    embed = OpenAIEmbeddings(model=DEMO, check_embedding_ctx_length=False, base_url=f"{URL}/v1", api_key="none")
    one, two = embed.embed_documents(["hello", "garden"])
    assert len(one) == len(two) and abs(sum(x * x for x in one) - 1) < 1e-4
    assert max(abs(x - y) for x, y in zip(one, embed.embed_query("hello"), strict=True)) < 1e-5


for check in (chats, forms, embeddings, tools):
    check()
becomes_free()
done("langchain-openai", "langchain-core")
