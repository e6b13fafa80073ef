"""Renders chats by other people's templates with this project's interpreter and with transformers', and compares.

    python tools/templates/compare.py llama_cpp_python-*.tar.gz target/release/examples/render

The templates are those that llama.cpp's source has for its own tests. A template is equal where every chat is rendered
to the same bytes, or refused by both. What differs is printed, and is an error unless it is named below.
"""

import contextlib
import datetime
import difflib
import io
import json
import logging
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools/reference"))

import jinja2  # noqa: E402
from transformers.utils.chat_template_utils import render_jinja_template  # noqa: E402

from conversations import CONVERSATIONS, SENT, TOOLS, with_objects  # noqa: E402

FOLDER = "/models/templates/"
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}

#: Tools as most programs have them; those of `TOOLS` have what some templates fail on.
USUAL = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "The weather in a town.",
            "parameters": {
                "type": "object",
                "properties": {
                    "town": {"type": "string", "description": "Its name"},
                    "days": {"type": "integer", "description": "How many"},
                    "unit": {"type": "string", "description": "Of degrees", "enum": ["celsius", "fahrenheit"]},
                },
                "required": ["town"],
            },
        },
    }
    for name in ("weather", "climate")
]

#: Chats of text, and what templates are told beside them.
PLAIN = {
    "one-question": [{}, {"enable_thinking": True}, {"enable_thinking": False}, {"tools": TOOLS}, {"tools": USUAL}],
    "system": [{}, {"tools": USUAL}],
    "several-turns": [{}, {"tools": USUAL}],
    "thoughts": [{}, {"enable_thinking": True}],
    "outer-whitespace": [{}],
    "thai": [{"tools": TOOLS}],
    "html-and-json": [{}],
    "late-system": [{}],
}
#: Chats with calls, their results and earlier thoughts.
CALLS = ("call-and-answer", "call-without-content", "two-calls-with-content", "thought-and-call")

#: What this project does otherwise, and why: by template and chat, `*` being all.
EXCEPTIONS: dict[tuple[str, str], str] = {}


def read(archive: Path) -> dict[str, str]:
    templates = {}
    with tarfile.open(archive) as files:
        for member in files:
            if member.isfile() and FOLDER in member.name and member.name.endswith(".jinja"):
                templates[member.name.rsplit("/", 1)[1].removesuffix(".jinja")] = files.extractfile(member).read().decode()
    return dict(sorted(templates.items()))


def cases(templates: dict[str, str]) -> list[dict]:
    def case(template: str, conversation: str, variables: dict) -> dict:
        return {"template": template, "conversation": conversation, "variables": variables}

    all_cases = []
    for name, source in templates.items():
        tools = "tool" in source
        for conversation, variants in PLAIN.items():
            all_cases += [case(name, conversation, it) for it in variants if tools or "tools" not in it]
        if tools:
            all_cases += [case(name, conversation, {"tools": it}) for conversation in CALLS for it in (TOOLS, USUAL)]
        all_cases.append(case(name, "thought", {}))
    return all_cases


def theirs(source: str, messages: list[dict], variables: dict) -> dict:
    variables = {**TOKENS, **variables}
    tools = variables.pop("tools", None)
    try:
        # Templates may print.
        with contextlib.redirect_stdout(io.StringIO()):
            rendered, _ = render_jinja_template(
                [messages], tools=tools, chat_template=source, add_generation_prompt=True, **variables
            )
    except (jinja2.exceptions.TemplateError, TypeError, AttributeError, ValueError, KeyError, RecursionError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"text": rendered[0]}


def ours(renderer: Path, templates: dict, conversations: dict, wanted: list[dict]) -> list[dict]:
    chats = {"templates": templates, "conversations": conversations, "special_tokens": TOKENS, "cases": wanted}
    done = subprocess.run([renderer], input=json.dumps(chats), capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def shown(name: str, one: dict, other: dict) -> str:
    if "text" not in one or "text" not in other:
        return f"{name}\n  transformers: {one}\n  this project: {other}"[:1200]
    lines = difflib.unified_diff(
        one["text"].splitlines(), other["text"].splitlines(), "transformers", "this project", lineterm="", n=1
    )
    return "\n  ".join([name, *list(lines)[:24]])


def main() -> int:
    archive, renderer = Path(sys.argv[1]), Path(sys.argv[2])
    logging.disable(logging.WARNING)
    templates = read(archive)
    if len(templates) < 10:
        print(f"{archive.name} has {len(templates)} templates under {FOLDER}; is it llama.cpp's source?")
        return 1
    conversations = {**CONVERSATIONS, **SENT}
    wanted = cases(templates)
    day = datetime.date.today()
    results = ours(renderer, templates, conversations, wanted)
    if len(results) != len(wanted):
        print(f"{renderer.name} gave {len(results)} results for {len(wanted)} chats")
        return 1
    table: dict[str, dict] = {name: {"chats": 0, "equal": 0, "refused": 0, "why": set(), "wrong": 0} for name in templates}
    differences = []
    for case, result in zip(wanted, results):
        name, conversation = case["template"], case["conversation"]
        expected = theirs(templates[name], with_objects(conversations[conversation]), case["variables"])
        row = table[name]
        row["chats"] += 1
        if "error" in expected and "error" in result:
            row["refused"] += 1
        elif expected == result:
            row["equal"] += 1
        elif why := EXCEPTIONS.get((name, conversation)) or EXCEPTIONS.get(("*", conversation)):
            row["why"].add(why)
        else:
            row["wrong"] += 1
            told = ", ".join(case["variables"]) or "nothing more"
            differences.append(shown(f"{name} on {conversation}, told {told}", expected, result))
    if day != datetime.date.today():
        print("the day changed meanwhile, and templates that tell it may differ; once more")
        return 1
    for difference in differences:
        print(difference, "\n")
    width = max(map(len, templates))
    print(f"{'template':<{width}}  chats  equal  refused  differs")
    for name, row in table.items():
        why = "; ".join(sorted(row["why"]))
        rest = row["chats"] - row["equal"] - row["refused"]
        print(f"{name:<{width}}  {row['chats']:>5}  {row['equal']:>5}  {row['refused']:>7}  {rest:>7}  {why}".rstrip())
    good = sum(row["wrong"] == 0 for row in table.values())
    print(f"{good} of {len(table)} templates as transformers renders them, {len(wanted)} chats")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
