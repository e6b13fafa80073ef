"""The ways to ask: several phrasings a task, and the small sloppiness of people who type.

A phrasing is a `str.format` pattern. Sloppiness is applied to the pattern before the operands go in,
so that it changes the words around an operand and never the operand.
"""

import random
import re

SUM = [
    "What is {a} + {b}?", "What is {a} + {b}?", "What's {a} + {b}?", "{a}+{b}", "{a} + {b}", "{a} + {b} =",
    "{a}+{b}=?", "What is {a}+{b}?", "What is {a} plus {b}?", "What's {a} plus {b}?", "Add {a} and {b}.",
    "Calculate {a} + {b}.", "How much is {a} + {b}?", "How much is {a} plus {b}?",
    "What is the sum of {a} and {b}?", "Compute {a} + {b}.", "{a} plus {b}",
    "Can you add {a} and {b}?", "Tell me {a} + {b}.", "And {a} + {b}?", "What about {a} + {b}?",
]
DIFFERENCE = [
    "What is {a} - {b}?", "What is {a} - {b}?", "What's {a} - {b}?", "{a}-{b}", "{a} - {b}", "{a} - {b} =",
    "{a}-{b}=?", "What is {a}-{b}?", "What is {a} minus {b}?", "What's {a} minus {b}?",
    "Subtract {b} from {a}.", "Take {b} away from {a}.", "Calculate {a} - {b}.", "How much is {a} - {b}?",
    "How much is {a} minus {b}?", "Compute {a} - {b}.", "{a} minus {b}",
    "Can you subtract {b} from {a}?", "Tell me {a} - {b}.", "And {a} - {b}?", "What about {a} - {b}?",
]
# Always the larger minus the smaller, in whichever order the two are named.
DISTANCE = [
    "What is the difference between {a} and {b}?", "How far apart are {a} and {b}?",
]
LARGER = [
    "Which is larger, {a} or {b}?", "Which is bigger, {a} or {b}?", "Which number is larger, {a} or {b}?",
    "Which number is greater: {a} or {b}?", "Which is more, {a} or {b}?", "What is larger, {a} or {b}?",
    "Is {a} or {b} larger?", "Is {a} or {b} bigger?", "Which of {a} and {b} is larger?",
    "Name the larger of {a} and {b}.",
]
SMALLER = [
    "Which is smaller, {a} or {b}?", "Which is less, {a} or {b}?", "Which number is smaller, {a} or {b}?",
    "Which number is lower: {a} or {b}?", "What is smaller, {a} or {b}?", "Is {a} or {b} smaller?",
    "Which of {a} and {b} is smaller?", "Name the smaller of {a} and {b}.",
]
IS_GREATER = [
    "Is {a} greater than {b}?", "Is {a} larger than {b}?", "Is {a} bigger than {b}?", "Is {a} more than {b}?",
    "{a} > {b}?",
]
IS_LESS = ["Is {a} less than {b}?", "Is {a} smaller than {b}?", "Is {a} lower than {b}?", "{a} < {b}?"]

DAY_AFTER = [
    "What day comes after {d}?", "Which day comes after {d}?", "What is the day after {d}?",
    "What day is after {d}?", "What comes after {d}?", "Which day follows {d}?",
    "If today is {d}, what is tomorrow?", "Today is {d}. What day is tomorrow?", "Name the day after {d}.",
    "What is the next day after {d}?", "And the day after {d}?",
]
DAY_BEFORE = [
    "What day comes before {d}?", "Which day comes before {d}?", "What is the day before {d}?",
    "What day is before {d}?", "What comes before {d}?", "Which day precedes {d}?",
    "If today is {d}, what was yesterday?", "Today is {d}. What day was yesterday?",
    "Name the day before {d}.", "What is the previous day before {d}?", "And the day before {d}?",
]
MONTH_AFTER = [
    "What month comes after {d}?", "Which month comes after {d}?", "What is the month after {d}?",
    "What month is after {d}?", "What comes after {d}?", "Which month follows {d}?",
    "If this month is {d}, what is next month?", "Name the month after {d}.",
    "What is the next month after {d}?", "And the month after {d}?",
]
MONTH_BEFORE = [
    "What month comes before {d}?", "Which month comes before {d}?", "What is the month before {d}?",
    "What month is before {d}?", "What comes before {d}?", "Which month precedes {d}?",
    "If this month is {d}, what was last month?", "Name the month before {d}.",
    "What is the previous month before {d}?", "And the month before {d}?",
]
REVERSE = [
    "Reverse {w}.", "Reverse the word {w}.", "Write {w} backwards.", "What is {w} backwards?",
    "What is {w} in reverse?", "Can you reverse {w}?", "Say {w} backwards.", "Turn the word {w} around.",
    "What is {w} spelled backwards?", "{w} backwards", "reverse {w}", "And {w} backwards?",
]
SPELL = [
    "Spell {w}.", "Spell the word {w}.", "How do you spell {w}?", "How is {w} spelled?", "Can you spell {w}?",
    "Spell out {w}.", "What are the letters of {w}?", "Name the letters in {w}.", "spell {w}",
    "And how do you spell {w}?",
]
MEET = [
    "Hi, I'm {n}.", "Hello, I'm {n}.", "I am {n}.", "My name is {n}.", "Hello, my name is {n}.", "Hi, {n} here.",
    "Hello! I am {n}.", "Hey, my name is {n}.", "Good morning, I'm {n}.", "Call me {n}.", "This is {n}.",
    "Hi there, I am {n}.",
]

QUESTIONS = [
    SUM, DIFFERENCE, DISTANCE, LARGER, SMALLER, IS_GREATER, IS_LESS, DAY_AFTER, DAY_BEFORE, MONTH_AFTER,
    MONTH_BEFORE, REVERSE, SPELL, MEET,
]

# The words of the questions themselves. A tokenizer tends to have each as one token, whose letters
# only show when the word is an operand too; so these stay in training.
VOCABULARY = {word for patterns in QUESTIONS for p in patterns for word in re.findall(r"[a-z]+", p.lower())}

_OPENERS = ["Hi! ", "Hello, ", "Please, ", "Hey, ", "Ok, ", "Now, ", "So, ", "Tell me: ", "Question: ", "Please tell me: "]
_CLOSERS = [" Please.", " please", ", please", " Thanks!", " thanks"]
_FIELD = re.compile(r"(\{\w+\})")


def _recase(pattern: str, change) -> str:
    parts = _FIELD.split(pattern)
    return "".join(part if _FIELD.fullmatch(part) else change(part) for part in parts)


def sloppy(rng: random.Random, pattern: str) -> str:
    """The pattern as somebody in a hurry types it: case, punctuation, spaces, a polite word or none."""
    if rng.random() < 0.12:
        pattern = rng.choice(_OPENERS) + pattern
    if rng.random() < 0.06:
        pattern = pattern + rng.choice(_CLOSERS)
    case = rng.random()
    if case < 0.15:
        pattern = _recase(pattern, str.lower)
    elif case < 0.19:
        pattern = _recase(pattern, str.upper)
    punctuation = rng.random()
    if punctuation < 0.12:
        pattern = pattern.rstrip("?.!")
    elif punctuation < 0.16:
        pattern = pattern.rstrip("?.!") + rng.choice(["?", ".", "!", "??", " ?", "...", "!!"])
    spaces = rng.random()
    if spaces < 0.06:
        pattern += " "
    elif spaces < 0.08:
        pattern = " " + pattern
    elif spaces < 0.09:
        pattern += "\n"
    elif spaces < 0.11:
        pattern = pattern.replace(" ", "  ", 1)
    return pattern
