"""Makes crates/ml-backend/tests/fixtures/jinja.json: what transformers renders, construct by construct.

    python tools/reference/jinja.py

The chats of chats.json show whole templates; this file takes the language apart. Its cases are
the constructs that chat templates are made of, and templates drawn at random from text, tags and
whitespace control, since a space too many or too few is the commonest way to be wrong. A case
that transformers refuses has its error instead of a text.
"""

import json
import random
from pathlib import Path

import transformers
from transformers.utils.chat_template_utils import render_jinja_template

from jinja_cases import CASES, MESSAGES, VARIABLES

OUT = Path(__file__).resolve().parents[2] / "crates/ml-backend/tests/fixtures/jinja.json"
SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
RANDOM_TEMPLATES = 250


def render(template: str) -> dict[str, str]:
    case = {"template": template}
    try:
        texts, _ = render_jinja_template(
            [[dict(message) for message in MESSAGES]],
            chat_template=template,
            add_generation_prompt=True,
            **SPECIAL_TOKENS,
            **VARIABLES,
        )
    except Exception as error:  # whatever a template can raise is what we want to know
        return case | {"error": f"{type(error).__name__}: {error}"}
    return case | {"text": texts[0]}


class Whitespace:
    """Draws templates in which whitespace meets every kind of tag and control mark."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def template(self) -> str:
        return "{% set ns = namespace() %}" + self.sequence(3)

    def sequence(self, depth: int) -> str:
        return "".join(self.node(depth) for _ in range(self.random.randint(1, 5)))

    def node(self, depth: int) -> str:
        kind = self.random.random()
        if kind < 0.35 or depth <= 0:
            return self.text()
        if kind < 0.5:
            inside = self.pick(" n ", "n", " 'q' ", " '}}' ", " {'a': {'b': 1}}['a']['b'] ")
            return "{{" + self.pick("", "", "-") + inside + self.pick("", "", "-") + "}}"
        if kind < 0.58:
            inside = self.pick(" c ", "\nc\n", "", " {{ n }} ")
            return "{#" + self.pick("", "", "-") + inside + self.pick("", "", "-") + "#}"
        if kind < 0.63:
            inside = self.text() + self.pick("{{ n }}", "{% if %}", "") + self.text()
            start = "{%" + self.pick("", "-", "+") + " raw " + self.pick("", "-") + "%}"  # Jinja2 refuses raw +%}
            return start + inside + self.tag("endraw")
        if kind < 0.72:
            return self.tag(self.pick("set z = n", "set ns.v = 2"))
        if kind < 0.86:
            otherwise = self.tag("else") + self.sequence(depth - 1) if self.random.random() < 0.3 else ""
            return self.tag("if yes") + self.sequence(depth - 1) + otherwise + self.tag("endif")
        if kind < 0.95:
            return self.tag("for i in [1, 2]") + self.sequence(depth - 1) + self.tag("endfor")
        return self.tag("generation") + self.sequence(depth - 1) + self.tag("endgeneration")

    def text(self) -> str:
        words = self.pick("a", "b", "", "", "x y", "é", "{", "}", "%", "#", "{ {")
        return self.space() + words + self.space()

    def space(self) -> str:
        return self.pick("", " ", "\n", "  ", "\n\n", "\t", " \n ", "\n  ", "\r\n")

    def tag(self, inside: str) -> str:
        return "{%" + self.pick("", "", "", "-", "+") + f" {inside} " + self.pick("", "", "", "-", "+") + "%}"

    def pick(self, *options: str) -> str:
        return self.random.choice(options)


def main() -> None:
    whitespace = Whitespace(seed=7)
    templates = CASES + [whitespace.template() for _ in range(RANDOM_TEMPLATES)]
    cases = [render(template) for template in templates]
    fixture = {
        "made_by": "tools/reference/jinja.py",
        "transformers": transformers.__version__,
        "messages": MESSAGES,
        "special_tokens": SPECIAL_TOKENS,
        "variables": VARIABLES,
        "cases": cases,
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(fixture, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    refused = sum("error" in case for case in cases)
    print(f"{OUT.name}: {len(cases)} cases, of which transformers refuses {refused}")


if __name__ == "__main__":
    main()
