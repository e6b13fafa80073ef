"""What transformers has for the tasks of this folder: `python expected.py`, in an environment of its own.

    pip install 'lm_eval[hf]==0.4.13' transformers==5.24.0 torch==2.15.0

Writes `questions.jsonl`, of the held-out questions and wrong answers that are right elsewhere, and `expected.json`: what
lm-evaluation-harness finds when transformers runs the demo model in float32 (`expand.py`). Only to be run again where
the demo model or a task changes.
"""

import json
import os
import tempfile
from pathlib import Path

from expand import DEMO
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
EACH_TASK = 3


def questions() -> list[dict]:
    """Of the demo model's tasks a few each, with two answers to other questions of it.

    An answer is begun with its first letter: lm-evaluation-harness counts white space that ends a prompt to the answer,
    and no model says that line break. Those are left out whose first letter is part of a longer token: the harness
    finds nothing to ask for then.
    """
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    lines = (HERE.parents[2] / "assets/models/heldout/questions.jsonl").read_text().splitlines()
    by_task: dict[str, list[dict]] = {}
    for line in map(json.loads, lines):
        by_task.setdefault(line["task"], []).append(line)
    made = []
    for asked in by_task.values():
        answers = list(dict.fromkeys(question["answer"] for question in asked))
        fit = [question for question in asked if all(apart(tokenizer, question["answer"][0], a) for a in answers[:9])]
        answers = answers[:9]
        for at, question in enumerate(fit[:EACH_TASK]):
            wrong = [answer for answer in answers if answer != question["answer"]][:2]
            right = at % (len(wrong) + 1)
            choices = [answer[1:] for answer in wrong[:right] + [question["answer"]] + wrong[right:]]
            begun = question["answer"][0]
            made.append({"question": question["prompt"], "begun": begun, "choices": choices, "right": right})
    return made


def apart(tokenizer, begun: str, answer: str) -> bool:
    """Whether what follows an answer's first letter is in tokens of its own."""
    whole, first = (tokenizer.encode(text).tokens for text in (begun + answer[1:], begun))
    return whole[: len(first)] == first and len(whole) > len(first)


def main() -> None:
    lines = (json.dumps(question, ensure_ascii=False) for question in questions())
    (HERE / "questions.jsonl").write_text("\n".join(lines) + "\n")
    os.chdir(HERE)
    import lm_eval
    import torch
    import transformers
    from lm_eval.tasks import TaskManager

    import expand
    from tasks import TASKS, found

    with tempfile.TemporaryDirectory() as folder:
        expand.main(Path(folder))
        results = lm_eval.simple_evaluate(
            model="hf",
            model_args={"pretrained": folder, "dtype": "float32", "device": "cpu"},
            tasks=TASKS,
            task_manager=TaskManager(include_path=str(HERE), include_defaults=False),
            bootstrap_iters=0,
        )
    versions = {module.__name__: module.__version__ for module in (lm_eval, torch, transformers)}
    made = {"made with": versions} | found(results["samples"])
    rows = (f"  {json.dumps(name)}: {json.dumps(values, ensure_ascii=False)}" for name, values in made.items())
    (HERE / "expected.json").write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    main()
