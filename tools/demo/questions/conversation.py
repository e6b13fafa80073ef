"""Chats: one question or several, with or without a system message.

The system message never changes an answer; it is there so that a model which is given one still
answers. Later turns never depend on earlier ones, except that they may open with "And".
"""

import random
from dataclasses import dataclass

from .talk import aside, small_talk
from .tasks import TASKS, Question, draw
from .words import any_word

_NAMES = list(TASKS)
_WEIGHTS = [share for _, share in TASKS.values()]

_SYSTEM = [
    "You are a helpful assistant.", "You are a helpful assistant.", "Answer briefly.", "Be brief.", "Be kind.",
    "You are a calculator.", "Answer with one word.", "You are a tiny model.", "Answer the question.",
    "You are a friendly assistant who answers in English.", "Reply with the answer only.",
    "You are a teacher of small children. Be patient and clear.", "Always be polite.", "No chatter.",
]


@dataclass(frozen=True, slots=True)
class Conversation:
    """An optional system message and the turns, oldest first."""

    system: str | None
    turns: list[Question]


def _turn(rng: random.Random) -> Question:
    kind = rng.random()
    if kind < 0.05:
        return small_talk(rng)
    if kind < 0.09:
        return aside(rng)
    return draw(rng, rng.choices(_NAMES, _WEIGHTS)[0], held_out=False, rough=rng.random() < 0.5)


def _system(rng: random.Random) -> str:
    if rng.random() < 0.8:
        return rng.choice(_SYSTEM)
    return f"You are a {any_word(rng)} {any_word(rng)}. {rng.choice(_SYSTEM)}"


def single(rng: random.Random) -> Conversation:
    """One question, no system message."""
    return Conversation(None, [_turn(rng)])


def chat(rng: random.Random) -> Conversation:
    """One to eight questions, often under a system message."""
    system = _system(rng) if rng.random() < 0.6 else None
    return Conversation(system, [_turn(rng) for _ in range(rng.randint(1 if system else 2, 8))])
