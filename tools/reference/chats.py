"""Makes crates/ml-backend/tests/fixtures: tokenizers, rendered chats, encoded and decoded text.

    python tools/reference/chats.py

See README.md for what the JSON files hold.
"""

import json
import shutil
from pathlib import Path

import jinja2
import tokenizers
import transformers
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from conversations import CONVERSATIONS, SENT, TOOLS, with_objects
from expressions import CORNERS, EXPRESSION_MESSAGES, EXPRESSIONS, PREAMBLE
from texts import STREAMS, TEXTS
from train_tokenizers import TOKENIZERS, save_tokenizer

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parents[1] / "crates/ml-backend/tests/fixtures"

ABOUT = {
    "made_by": "tools/reference/chats.py",
    "jinja2": jinja2.__version__,
    "tokenizers": tokenizers.__version__,
    "transformers": transformers.__version__,
}

#: Templates that are written for turns of Gemma's; all others go with `bytelevel`.
SPM_TEMPLATES = ("builtin-gemma", "builtin-gemma4", "turns-alternating", "turns-channels", "inst", "state-machine")

#: What templates are told beside the messages: (variables, the conversations it is tried with).
VARIANTS = {
    "thinking-tools": [
        ({"enable_thinking": False}, ("one-question", "several-turns", "thoughts")),
        ({"enable_thinking": True}, ("one-question",)),
        ({"tools": TOOLS}, ("one-question", "system", "tool-response")),
    ],
    "turns-channels": [
        ({"enable_thinking": True}, ("one-question", "system", "channels")),
        ({"tools": TOOLS}, ("one-question", "several-turns", "channels")),
        ({"enable_thinking": True, "tools": TOOLS}, ("system",)),
    ],
    "headers-with-date": [
        ({"date_string": "1 Jan 2030"}, ("system", "one-question")),
        ({"tools": TOOLS, "date_string": "1 Jan 2030"}, ("system",)),
        ({"tools": TOOLS, "tools_in_user_message": False}, ("several-turns",)),
    ],
    "inst": [({"tools": TOOLS}, ("one-question", "several-turns"))],
    "macros": [({"tools": TOOLS}, ("one-question",))],
    "json": [({"tools": TOOLS}, ("one-question", "thai"))],
    "builtin-chatml": [({"enable_thinking": False}, ("one-question",))],
}

#: Templates that the conversations of `SENT` are rendered with, and those that only they are for.
WITH_CALLS = ("thinking-tools", "turns-channels", "calls-headers", "calls-brackets", "parts")
CALLS_ONLY = WITH_CALLS[2:]
#: Where a template has nothing for them, transformers shows it the list, or the role, as it is; the backend gives
#: it their text, or `system`, so that nothing is lost.
KNOWN_BY = {"parts": "parts", "developer": "calls-headers"}


def read_templates() -> dict[str, str]:
    # As bytes lie in the file: one template has CRLF line ends.
    return {file.stem: file.read_bytes().decode() for file in sorted((HERE / "templates").glob("*.jinja"))}


def rendered(tokenizer, template: str, messages, add_generation_prompt: bool, variables: dict) -> dict:
    """What transformers makes of it: `text` and `ids`, or `error` and, if the template gave one, `message`."""
    options = {"chat_template": template, "add_generation_prompt": add_generation_prompt, **variables}
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    except jinja2.exceptions.TemplateError as error:
        raised = type(error) is jinja2.exceptions.TemplateError  # raise_exception, and nothing else.
        return {"error": "raised", "message": error.message} if raised else {"error": type(error).__name__}
    except TypeError:
        return {"error": "TypeError"}
    return {"text": text, "ids": tokenizer.apply_chat_template(messages, return_dict=False, **options)}


def chat_cases(loaded: dict, templates: dict[str, str]) -> list[dict]:
    cases = []
    for template, source in templates.items():
        tokenizer = "spm" if template in SPM_TEMPLATES else "bytelevel"

        def case(name: str, add_generation_prompt: bool, variables: dict) -> None:
            messages = with_objects({**CONVERSATIONS, **SENT}[name])
            result = rendered(loaded[tokenizer], source, messages, add_generation_prompt, variables)
            if template.startswith("builtin-") and "text" in result:
                # A built-in format leaves `<bos>` to the tokenizer.
                result["ids_with_special_tokens"] = loaded[tokenizer](result["text"]).input_ids
            cases.append(
                {
                    "template": template,
                    "tokenizer": tokenizer,
                    "conversation": name,
                    "add_generation_prompt": add_generation_prompt,
                    "variables": variables,
                    **result,
                }
            )

        broken = template.startswith("fails-")
        few = broken or template in CALLS_ONLY
        for name in ["one-question"] if few else CONVERSATIONS:
            case(name, True, {})
        for name in () if few else ("ends-with-assistant", "several-turns"):
            case(name, False, {})
        for name in SENT if template in WITH_CALLS else ():
            calls = any("tool_calls" in message for message in SENT[name])
            if KNOWN_BY.get(name, template) != template or (calls and "tool" not in source):
                continue
            case(name, True, {"tools": TOOLS} if calls else {})
        for variables, names in VARIANTS.get(template, ()):
            for name in names:
                case(name, True, variables)
    return cases


def expression_cases(tokenizer, sources: list[str]) -> list[dict]:
    cases = []
    for source in sources:
        result = rendered(tokenizer, PREAMBLE + source, EXPRESSION_MESSAGES, False, {})
        result.pop("ids", None)
        if "error" in result:
            raise RuntimeError(f"{source} does not render: {result}")
        cases.append({"source": PREAMBLE + source, **result})
    return cases


def text_cases(tokenizer, raw: Tokenizer) -> list[dict]:
    cases = []
    for text in TEXTS:
        ids = {
            "ids": tokenizer(text, add_special_tokens=False).input_ids,
            "ids_with_special_tokens": tokenizer(text).input_ids,
        }
        # tokenizer.json alone says the same as the class that tokenizer_config.json names.
        assert ids["ids"] == raw.encode(text, add_special_tokens=False).ids, text
        assert ids["ids_with_special_tokens"] == raw.encode(text).ids, text
        cases.append({"text": text, **ids, **decoded(tokenizer, raw, ids["ids_with_special_tokens"])})
    return cases


def decoded(tokenizer, raw: Tokenizer, ids: list[int]) -> dict:
    texts = {
        "decoded": tokenizer.decode(ids, skip_special_tokens=False),
        "decoded_without_special_tokens": tokenizer.decode(ids, skip_special_tokens=True),
    }
    assert texts["decoded"] == raw.decode(ids, skip_special_tokens=False), ids
    assert texts["decoded_without_special_tokens"] == raw.decode(ids, skip_special_tokens=True), ids
    return texts


def stream_cases(name: str, tokenizer, raw: Tokenizer) -> list[dict]:
    """Token by token: `prefixes[n]` is what the first n + 1 ids decode to."""
    cases = []
    for label, parts in STREAMS.items():
        ids = []
        for part in parts:
            if isinstance(part, bytes):
                ids += [byte_id(name, raw, byte) for byte in part]
            else:
                ids += tokenizer(part, add_special_tokens=False).input_ids
        prefixes = [tokenizer.decode(ids[: n + 1], skip_special_tokens=True) for n in range(len(ids))]
        cases.append({"name": label, "ids": ids, "prefixes": prefixes, **decoded(tokenizer, raw, ids)})
    return cases


def byte_id(name: str, raw: Tokenizer, byte: int) -> int:
    """The token that stands for one byte."""
    if name == "bytelevel":
        return next(number for number in range(raw.get_vocab_size()) if byte_of_piece(raw.id_to_token(number)) == byte)
    return raw.token_to_id(f"<0x{byte:02X}>")


def byte_of_piece(piece: str) -> int | None:
    """The byte that a single letter of the byte-level alphabet stands for.

    Printable Latin-1 stands for itself; the other 68 bytes, in order, for U+0100 and on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    if len(piece) != 1:
        return None
    code = ord(piece)
    return code if code in printable else others[code - 0x100] if 0x100 <= code < 0x100 + len(others) else None


def write_compact(path: Path, sections: dict) -> None:
    """JSON with one entry a line in each list, so that a change shows as few lines."""
    line = lambda value: json.dumps(value, ensure_ascii=False)

    def entries(value, indent: str) -> str:
        if isinstance(value, list):
            return "[\n" + ",\n".join(indent + " " + line(entry) for entry in value) + f"\n{indent}]"
        inner = (f"{indent} {line(key)}: {nested(entry, indent + ' ')}" for key, entry in value.items())
        return "{\n" + ",\n".join(inner) + f"\n{indent}}}"

    def nested(value, indent: str) -> str:
        holds_more = isinstance(value, dict) and any(isinstance(v, (list, dict)) for v in value.values())
        return entries(value, indent) if holds_more or isinstance(value, list) else line(value)

    path.write_text(entries(sections, "") + "\n", encoding="utf-8")


def main() -> None:
    transformers.utils.logging.set_verbosity_error()
    templates = read_templates()
    shutil.rmtree(FIXTURES / "tokenizers", ignore_errors=True)
    own = {"bytelevel": templates["thinking-tools"], "spm": templates["turns-alternating"]}
    for name in TOKENIZERS:
        save_tokenizer(FIXTURES / "tokenizers" / name, name, own.get(name))
    loaded = {name: AutoTokenizer.from_pretrained(FIXTURES / "tokenizers" / name) for name in TOKENIZERS}
    raw = {name: Tokenizer.from_file(str(FIXTURES / "tokenizers" / name / "tokenizer.json")) for name in TOKENIZERS}
    for name, template in own.items():
        assert loaded[name].chat_template == template, name

    cases = chat_cases(loaded, templates)
    write_compact(
        FIXTURES / "chats.json",
        {
            "reference": ABOUT,
            "templates": templates,
            "conversations": {**CONVERSATIONS, **SENT},
            "cases": cases,
            "expression_messages": EXPRESSION_MESSAGES,
            "expressions": expression_cases(loaded["bytelevel"], EXPRESSIONS),
            "corners": expression_cases(loaded["bytelevel"], CORNERS),
        },
    )
    write_compact(
        FIXTURES / "tokenize.json",
        {
            "reference": ABOUT,
            "tokenizers": {
                name: {
                    "texts": text_cases(loaded[name], raw[name]),
                    "streams": stream_cases(name, loaded[name], raw[name]),
                }
                for name in TOKENIZERS
            },
        },
    )
    errors = [case for case in cases if "error" in case]
    print(f"{len(templates)} templates, {len(cases)} chats, {len(errors)} of them errors")
    for file in sorted(FIXTURES.rglob("*")):
        if file.is_file():
            print(f"{file.relative_to(FIXTURES)!s:45} {file.stat().st_size / 1024:7.1f} KB")


if __name__ == "__main__":
    main()
