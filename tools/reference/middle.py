"""Prompts for filling in between two texts, with a tokenizer that puts a space before a text.

Meta's `infilling_prompt_tokens` and `encode_fim` of mistral-common encode the prefix as a text by itself and the
suffix without that space. Here the latter is the tokenizer `spm-prefix` (`chats.py` makes it) without its normalizer
that puts the space there; the marks of both families are added. Writes
`crates/ml-backend/tests/fixtures/middle.json`.
"""

import json
from pathlib import Path

from tokenizers import Tokenizer, normalizers

FIXTURES = Path(__file__).resolve().parents[2] / "crates/ml-backend/tests/fixtures"
LLAMA = {"prefix": "\u2581<PRE>", "suffix": "\u2581<SUF>", "middle": "\u2581<MID>"}
MISTRAL = {"prefix": "[PREFIX]", "suffix": "[SUFFIX]"}

PAIRS = [
    ("def add(a, b):\n    return ", "\n\nprint(add(1, 2))\n"),
    ("the garden", "the garden"),
    (" the garden", " the garden"),
    ("", "x"),
    ("x", ""),
    ("x = ", "é\n"),
    ("\n", "\n\n"),
    ("a\n ", "  a"),
]


def main() -> None:
    file = FIXTURES / "tokenizers/spm-prefix/tokenizer.json"
    tokenizer, inside = Tokenizer.from_file(str(file)), Tokenizer.from_file(str(file))
    inside.normalizer = normalizers.Replace(" ", "\u2581")
    bos, first = tokenizer.token_to_id("<bos>"), tokenizer.get_vocab_size()
    families = []
    for marks in (LLAMA, MISTRAL):
        ids = {name: first + at for at, name in enumerate(marks)}
        cases = []
        for prefix, suffix in PAIRS:
            before = tokenizer.encode(prefix, add_special_tokens=False).ids
            behind = inside.encode(suffix, add_special_tokens=False).ids
            if marks is LLAMA:
                prompt = [bos, ids["prefix"], *before, ids["suffix"], *behind, ids["middle"]]
            else:
                prompt = [bos, ids["suffix"], *behind, ids["prefix"], *before]
            cases.append({"prefix": prefix, "suffix": suffix, "ids": prompt})
        tokens = {mark: ids[name] for name, mark in marks.items()}
        families.append({"tokens": tokens, "cases": cases})
    text = json.dumps(families, ensure_ascii=False)
    (FIXTURES / "middle.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
