"""The questions: each draw picks operands on one side of the split, a phrasing, and works out the answer.

Numbers run from 0 to 999 and a difference may be negative. Dates leave out what depends on leap
years. Answers are as short as they can be: the number, the word, the date, and nothing else.
"""

import random
from dataclasses import dataclass

from . import phrasing
from .split import is_held_out
from .words import any_name, any_word

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = [
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
]
_MONTH_LENGTHS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
YEARS = (1900, 2099)


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt and the only right answer.

    `operands` is what is asked about, whatever the phrasing; empty where the prompt is all there is.
    `letters` says that the answer is written letter by letter.
    """

    task: str
    prompt: str
    answer: str
    operands: tuple = ()
    letters: bool = False


def _ask(rng: random.Random, rough: bool, patterns: list[str], **operands) -> str:
    pattern = rng.choice(patterns)
    if rough:
        pattern = phrasing.sloppy(rng, pattern)
    return pattern.format(**operands)


def _number(rng: random.Random) -> int:
    digits = rng.random()
    if digits < 0.12:
        return rng.randrange(10)
    return rng.randrange(10, 100) if digits < 0.45 else rng.randrange(100, 1000)


def _pair(rng: random.Random, kind: str, held_out: bool, close: float = 0.0) -> tuple[int, int]:
    """Two numbers on the asked side of the split; with probability `close`, ones that are hard to tell apart."""
    while True:
        a, b = _number(rng), _number(rng)
        if rng.random() < close:
            b = min(999, max(0, a + rng.choice((-100, -20, -11, -10, -9, -2, -1, 0, 1, 2, 9, 10, 11, 20, 100))))
        if is_held_out(kind, min(a, b), max(a, b)) == held_out:
            return a, b


def _sum(rng, held_out, rough):
    a, b = _pair(rng, "sum", held_out)
    return Question("sum", _ask(rng, rough, phrasing.SUM, a=a, b=b), str(a + b), (min(a, b), max(a, b)))


def _difference(rng, held_out, rough):
    a, b = _pair(rng, "difference", held_out, close=0.05)
    operands = (min(a, b), max(a, b))
    if rng.random() < 0.1:
        return Question("difference", _ask(rng, rough, phrasing.DISTANCE, a=a, b=b), str(abs(a - b)), operands)
    if a < b and rng.random() < 0.5:
        a, b = b, a
    return Question("difference", _ask(rng, rough, phrasing.DIFFERENCE, a=a, b=b), str(a - b), operands)


def _compare(rng, held_out, rough):
    a, b = _pair(rng, "compare", held_out, close=0.35)
    form = rng.randrange(4)
    patterns = (phrasing.LARGER, phrasing.SMALLER, phrasing.IS_GREATER, phrasing.IS_LESS)[form]
    if form < 2:
        answer = "They are equal" if a == b else str(max(a, b) if form == 0 else min(a, b))
    else:
        answer = "Yes" if (a > b if form == 2 else a < b) else "No"
    return Question("compare", _ask(rng, rough, patterns, a=a, b=b), answer, (min(a, b), max(a, b)))


def _typed(rng: random.Random, rough: bool, name: str) -> str:
    return name.lower() if rough and rng.random() < 0.15 else name


def _date(rng: random.Random, held_out: bool, step: int) -> tuple[str, int, str, int]:
    while True:
        month = rng.randrange(12)
        if not held_out and rng.random() < 0.25:
            day = rng.choice((1, _MONTH_LENGTHS[month]))
        else:
            day = rng.randint(1, _MONTH_LENGTHS[month])
        # The edges of months cannot be inferred from other dates, so all of them are taught.
        edge = day == 1 or day == _MONTH_LENGTHS[month]
        if (not edge and is_held_out("date", month, day)) != held_out:
            continue
        if step == 1 and (month, day) == (1, 28) or step == -1 and (month, day) == (2, 1):
            continue
        other, next_day = month, day + step
        if next_day < 1 or next_day > _MONTH_LENGTHS[month]:
            other = (month + step) % 12
            next_day = 1 if step == 1 else _MONTH_LENGTHS[other]
        return MONTHS[month], day, MONTHS[other], next_day


def _day(rng, held_out, rough):
    step = rng.choice((1, -1))
    patterns = phrasing.DAY_AFTER if step == 1 else phrasing.DAY_BEFORE
    if not held_out and rng.random() < 0.35:
        at = rng.randrange(7)
        asked, answer = _typed(rng, rough, DAYS[at]), DAYS[(at + step) % 7]
    else:
        month, day, other, next_day = _date(rng, held_out, step)
        asked, answer = f"{_typed(rng, rough, month)} {day}", f"{other} {next_day}"
    return Question("day", _ask(rng, rough, patterns, d=asked), answer, (asked.capitalize(), step))


def _month(rng, held_out, rough):
    step = rng.choice((1, -1))
    patterns = phrasing.MONTH_AFTER if step == 1 else phrasing.MONTH_BEFORE
    at = rng.randrange(12) if rng.random() < 0.7 else (11 if step == 1 else 0)
    then = MONTHS[(at + step) % 12]
    if not held_out and rng.random() < 0.35:
        asked, answer = _typed(rng, rough, MONTHS[at]), then
    else:
        while True:
            year = rng.randint(*YEARS)
            if is_held_out("month", at, year) == held_out:
                break
        crossed = {(11, 1): 1, (0, -1): -1}.get((at, step), 0)
        asked, answer = f"{_typed(rng, rough, MONTHS[at])} {year}", f"{then} {year + crossed}"
    return Question("month", _ask(rng, rough, patterns, d=asked), answer, (asked.capitalize(), step))


def _word(rng: random.Random, held_out: bool, rough: bool) -> tuple[str, str]:
    """A word, and the same word as it stands in the question: bare or in quotes."""
    while True:
        word = any_word(rng)
        if is_held_out("word", word) == held_out:
            break
    if rough and rng.random() < 0.1:
        word = word.capitalize()
    quotes = rng.random()
    shown = word if quotes < 0.6 else (f"'{word}'" if quotes < 0.8 else f'"{word}"')
    return word, shown


def _reverse(rng, held_out, rough):
    word, shown = _word(rng, held_out, rough)
    return Question("reverse", _ask(rng, rough, phrasing.REVERSE, w=shown), word[::-1], (word,), letters=True)


def _spell(rng, held_out, rough):
    word, shown = _word(rng, held_out, rough)
    return Question("spell", _ask(rng, rough, phrasing.SPELL, w=shown), "-".join(word), (word,))


def _greet(rng, held_out, rough):
    while True:
        name = any_name(rng)
        if is_held_out("name", name) == held_out:
            break
    return Question("greet", _ask(rng, rough, phrasing.MEET, n=name), f"Hello, {name}!", (name,))


# Each task with its share of the training questions.
TASKS = {
    "sum": (_sum, 20), "difference": (_difference, 22), "compare": (_compare, 14), "day": (_day, 7),
    "month": (_month, 7), "reverse": (_reverse, 16), "spell": (_spell, 8), "greet": (_greet, 3),
}


def draw(rng: random.Random, task: str, held_out: bool, rough: bool = False) -> Question:
    """One question of `task` from the asked side of the split; `rough` adds the sloppiness of typing."""
    return TASKS[task][0](rng, held_out, rough)


def held_out_set(rng: random.Random, per_task: int, rough: bool = False) -> list[Question]:
    """`per_task` held-out questions of each task, no two of a task about the same operands.

    Without that, the few held-out pairs of small numbers and edges of years would be asked again and again.
    A task with fewer held-out questions (there are 66 about dates) gives what 40 draws a question find.
    """
    questions = []
    for task in TASKS:
        seen = {}
        for _ in range(40 * per_task):
            question = draw(rng, task, held_out=True, rough=rough)
            seen.setdefault(question.operands, question)
            if len(seen) == per_task:
                break
        questions += seen.values()
    return questions


def calendar() -> list[Question]:
    """The day and month after and before each, which training knows all of."""
    return [
        Question(task, f"What {task} comes {'after' if step == 1 else 'before'} {name}?", names[(at + step) % len(names)])
        for task, names in (("day", DAYS), ("month", MONTHS))
        for at, name in enumerate(names)
        for step in (1, -1)
    ]
