"""Facts that the demo models rest on: `python -m pytest tools/demo`."""

import json
import random

import pytest
from transformers import AutoTokenizer

from batches import CHAT, IGNORED, Encoder, _fill
from layout import DEMOS, HELDOUT
from questions import conversation, tasks
from questions.talk import aside, closed_set
from questions.conversation import Conversation

STRANGE = ["สวัสดีครับ", "👩‍👩‍👧 family", "naïve café", "混ぜた text 42", "tabs\tand\n\nlines", "  spaces  ", "\u0000\u007f", ""]


@pytest.fixture(params=DEMOS, scope="module")
def family(request):
    return request.param


@pytest.fixture(scope="module")
def encoder(family):
    return Encoder(DEMOS[family])


@pytest.fixture(scope="module")
def hub_tokenizer(family):
    return AutoTokenizer.from_pretrained(DEMOS[family].directory)


def chats(count: int) -> list[Conversation]:
    rng = random.Random("test")
    return [conversation.chat(rng) for _ in range(count)]


def test_training_never_asks_about_a_held_out_operand():
    rng = random.Random("split")
    held_out = {(q.task, q.operands) for q in tasks.held_out_set(random.Random(1), 100)}
    held_out |= {("sum", (17, 25))}
    for _ in range(50_000):
        for turn in conversation.single(rng).turns:
            assert (turn.task, turn.operands) not in held_out


def test_the_committed_questions_are_held_out_and_right():
    lines = [json.loads(line) for line in (HELDOUT / "questions.jsonl").read_text().splitlines()]
    assert lines[0] == {"task": "sum", "prompt": "What is 17 + 25?", "answer": "42"}
    asked = [line["prompt"] for line in lines]
    rng = random.Random("training")
    trained = {turn.prompt for _ in range(50_000) for turn in conversation.single(rng).turns}
    assert not trained & set(asked)
    for line in lines:
        if line["task"] == "reverse":
            assert line["answer"][::-1] in line["prompt"]
        if line["task"] == "spell":
            assert line["answer"].replace("-", "") in line["prompt"]


@pytest.mark.parametrize("task", tasks.TASKS)
def test_sums_and_differences_are_what_python_says(task):
    rng = random.Random(task)
    for _ in range(500):
        question = tasks.draw(rng, task, held_out=rng.random() < 0.5)
        if task == "sum":
            assert int(question.answer) == sum(question.operands)
        if task == "difference":
            assert abs(int(question.answer)) == question.operands[1] - question.operands[0]


def test_training_renders_chats_as_the_template_does(encoder, hub_tokenizer):
    for chat in chats(300):
        messages = [{"role": "system", "content": chat.system}] if chat.system else []
        text = ""
        for index, turn in enumerate(chat.turns):
            messages.append({"role": "user", "content": turn.prompt})
            text += encoder.prompt(chat, index)
            assert hub_tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == text
            messages.append({"role": "assistant", "content": turn.answer})
            text += turn.answer + encoder.chat.end


def test_transformers_reads_the_tokenizer_as_it_was_trained(encoder, hub_tokenizer):
    rng = random.Random("asides")
    texts = [turn.prompt for chat in chats(200) for turn in chat.turns] + STRANGE
    texts += [aside(rng).prompt for _ in range(200)] + [encoder.prompt(chat) for chat in chats(50)]
    for text in texts:
        assert hub_tokenizer.encode(text) == encoder.tokenizer.encode(text).ids


def test_every_text_survives_tokenizing(encoder):
    unknown = encoder.tokenizer.token_to_id("<unk>")
    for text in STRANGE + [q.prompt for q in closed_set()]:
        ids = encoder.tokenizer.encode(text, add_special_tokens=False).ids
        assert unknown is None or unknown not in ids
        assert encoder.tokenizer.decode(ids) == text


def test_labels_are_the_answers_and_their_ends(encoder):
    ids, labels = _fill(encoder, random.Random(5), conversation.chat, 20, CHAT[1])
    rng = random.Random(5)
    for row in range(20):
        wanted = "".join(turn.answer + encoder.chat.end for turn in conversation.chat(rng).turns)
        got = encoder.tokenizer.decode(labels[row][labels[row] != IGNORED].tolist(), skip_special_tokens=False)
        assert wanted.startswith(got)
        assert got
        assert (labels[row, :-1] == ids[row, 1:])[labels[row, :-1] != IGNORED].all()
