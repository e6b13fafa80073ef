"""Training batches: chats rendered, tokenized and padded by worker processes, in a fixed order.

Questions are drawn anew for every batch and never repeat on purpose. Worker processes make numbered
chunks, each from its own seed, and the trainer consumes them in order, so the data depends on the seed
alone and not on how many workers there are. A batch has two parts, each of one shape: many single
questions, and fewer chats of several turns.
"""

import os
import random
from collections import deque
from collections.abc import Iterator
from multiprocessing import get_context

import numpy as np
from tokenizers import Tokenizer

from layout import DEMOS, SEED, Demo
from questions import conversation
from questions.conversation import Conversation

# Rows and length of each part. A single question that is longer is left to the chats.
SINGLE = (768, 56)
CHAT = (160, 176)
BATCHES_PER_CHUNK = 16
IGNORED = -100


class Encoder:
    """Chats to token ids, with a mark on the tokens that the model is to write."""

    def __init__(self, demo: Demo):
        self.chat = demo.chat
        self.tokenizer = Tokenizer.from_file(str(demo.directory / "tokenizer.json"))
        self.letters = {char: self._ids(char)[0] for char in map(chr, range(0x21, 0x7F))}
        self.end = self.tokenizer.token_to_id(demo.chat.end)

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def prompt(self, conversation: Conversation, turn: int = 0) -> str:
        """What stands between the answer before `turn` (or the beginning) and the answer of `turn`."""
        if turn:
            opening = "\n"
        else:
            opening = self.chat.bos
            if conversation.system is not None:
                opening += self.chat.system(conversation.system)
        return opening + self.chat.user(conversation.turns[turn].prompt) + self.chat.opening()

    def encode(self, conversation: Conversation) -> tuple[list[int], list[int]]:
        """Token ids, and for each whether it belongs to an answer or ends one.

        A reversed word is written letter by letter: the text is the same, and the model needs no
        opinion on how the tokenizer would cut a word that has just come to be.
        """
        ids, wanted = [], []
        for index, turn in enumerate(conversation.turns):
            asked = self._ids(self.prompt(conversation, index))
            answer = [self.letters[char] for char in turn.answer] if turn.letters else self._ids(turn.answer)
            ids += asked + answer + [self.end]
            wanted += [0] * len(asked) + [1] * (len(answer) + 1)
        return ids, wanted


def _fill(encoder: Encoder, rng: random.Random, draw, rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """`rows` chats of at most `length` tokens: ids [rows, length] and next-token labels, same shape."""
    ids = np.zeros((rows, length), np.int16)
    labels = np.full((rows, length), IGNORED, np.int16)
    row = 0
    while row < rows:
        tokens, wanted = encoder.encode(draw(rng))
        size = min(len(tokens), length)
        if size < len(tokens) and draw is conversation.single:
            continue
        tokens, wanted = np.array(tokens[:size]), np.array(wanted[:size], bool)
        ids[row, :size] = tokens
        labels[row, : size - 1] = np.where(wanted[1:], tokens[1:], IGNORED)
        row += 1
    return ids, labels


_ENCODER: Encoder | None = None
_SHRINK = 1


def _start_worker(family: str, shrink: int) -> None:
    global _ENCODER, _SHRINK
    _SHRINK = shrink
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _ENCODER = Encoder(DEMOS[family])


def _chunk(index: int) -> list[np.ndarray]:
    rng = random.Random(f"{SEED}/train/{index}")
    singles = _fill(_ENCODER, rng, conversation.single, SINGLE[0] // _SHRINK * BATCHES_PER_CHUNK, SINGLE[1])
    chats = _fill(_ENCODER, rng, conversation.chat, CHAT[0] // _SHRINK * BATCHES_PER_CHUNK, CHAT[1])
    return [*singles, *chats]


def stream(family: str, steps: int, workers: int, shrink: int = 1) -> Iterator[list[np.ndarray]]:
    """`steps` batches of [single ids, single labels, chat ids, chat labels]; ids are int16, padded with 0.

    `shrink` divides the number of rows, for trying the script out on a small machine.
    """
    chunks = -(-steps // BATCHES_PER_CHUNK)
    with get_context("spawn").Pool(workers, _start_worker, (family, shrink)) as pool:
        pending, submitted, given = deque(), 0, 0
        while given < steps:
            while submitted < chunks and len(pending) < 3 * workers:
                pending.append(pool.apply_async(_chunk, (submitted,)))
                submitted += 1
            parts = pending.popleft().get()
            for batch in range(min(BATCHES_PER_CHUNK, steps - given)):
                yield [np.split(part, BATCHES_PER_CHUNK)[batch] for part in parts]
            given += BATCHES_PER_CHUNK
