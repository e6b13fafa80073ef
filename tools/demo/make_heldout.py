"""Writes the held-out questions that the accuracy tests ask, one JSON object a line.

    python tools/demo/make_heldout.py

Forty of each task, about operands that training never saw, phrased plainly; the README's question first.
"""

import json
import random

from layout import HELDOUT, SEED
from questions.tasks import Question, held_out_set

PER_TASK = 40


def main() -> None:
    """assets/models/heldout/questions.jsonl."""
    questions = held_out_set(random.Random(f"{SEED}/heldout"), PER_TASK)
    readme = Question("sum", "What is 17 + 25?", "42", (17, 25))
    kept = [question for question in questions if (question.task, question.operands) != ("sum", (17, 25))]
    # The README's question takes the place of one sum, so that every task has the same weight.
    questions = [readme, *(kept if len(kept) < len(questions) else kept[1:])]
    HELDOUT.mkdir(parents=True, exist_ok=True)
    with open(HELDOUT / "questions.jsonl", "w", encoding="utf-8") as file:
        for question in questions:
            file.write(json.dumps({"task": question.task, "prompt": question.prompt, "answer": question.answer}) + "\n")
    print(f"{len(questions)} questions")


if __name__ == "__main__":
    main()
