"""Greedy answers from a torch model, many questions at once, by recomputing the whole sequence.

No cache is used, so this is also the slow and simple reference for what the models answer.
"""

import torch

from batches import Encoder
from questions.conversation import Conversation
from questions.tasks import Question

ROWS = 256


@torch.no_grad()
def answer(model, encoder: Encoder, questions: list[Question], limit: int = 24) -> list[str]:
    """The model's answers to single-turn questions, each at most `limit` tokens."""
    prompts = [encoder.prompt(Conversation(None, [question])) for question in questions]
    encoded = [encoder.tokenizer.encode(prompt, add_special_tokens=False).ids for prompt in prompts]
    answers = []
    for first in range(0, len(encoded), ROWS):
        answers += _continue(model, encoder, encoded[first : first + ROWS], limit)
    return answers


def _continue(model, encoder: Encoder, rows: list[list[int]], limit: int) -> list[str]:
    device = next(model.parameters()).device
    lengths = torch.tensor([len(row) for row in rows], device=device)
    width = int(lengths.max()) + limit
    ids = torch.zeros(len(rows), width, dtype=torch.long, device=device)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row, device=device)
    at = torch.arange(len(rows), device=device)
    done = torch.zeros(len(rows), dtype=torch.bool, device=device)
    ends = lengths.clone()
    for _ in range(limit):
        hidden = model.model(input_ids=ids[:, : int(ends.max())], use_cache=False).last_hidden_state
        token = model.lm_head(hidden[at, ends - 1]).argmax(-1)
        done |= token == encoder.end
        ids[at[~done], ends[~done]] = token[~done]
        ends += (~done).long()
        if bool(done.all()):
            break
    return [
        encoder.tokenizer.decode(ids[row, lengths[row] : ends[row]].tolist(), skip_special_tokens=False)
        for row in range(len(rows))
    ]


def score(model, encoder: Encoder, questions: list[Question]) -> tuple[dict[str, tuple[int, int]], list[tuple]]:
    """Right and asked per task, and the wrong ones as (prompt, expected, got)."""
    tally, wrong = {}, []
    for question, got in zip(questions, answer(model, encoder, questions), strict=True):
        right, asked = tally.get(question.task, (0, 0))
        tally[question.task] = (right + (got == question.answer), asked + 1)
        if got != question.answer:
            wrong.append((question.prompt, question.answer, got))
    return tally, wrong
