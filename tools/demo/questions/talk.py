"""Small talk and the polite way out: what the models say when nothing is asked that they can do.

These prompts form a closed set, so they are trained as they stand and count for no held-out figure.
"""

import random

from .phrasing import sloppy
from .tasks import Question
from .words import NAMES, WORDS

IDENTITY = (
    "I am a tiny demo language model. I can add, subtract and compare numbers, name days and months, "
    "and spell or reverse words."
)
UNSURE = "I do not know. Ask me for a sum, a date or a word."

_TALK = [
    (IDENTITY, [
        "What are you?", "Who are you?", "What are you?", "What can you do?", "What is your name?",
        "Tell me about yourself.", "Introduce yourself.", "Are you a robot?", "Are you a human?", "Help",
        "What kind of model are you?", "What's your name?", "How can you help me?", "Hello, who are you?",
        "What do you do?", "Are you an AI?", "help me", "What model is this?",
    ]),
    ("Hello! How can I help?", [
        "Hello", "Hello!", "Hi", "Hi!", "Hey", "Hi there!", "Hello there.", "Good morning!", "Good evening!",
        "Good afternoon.", "Greetings!", "Hey there", "Hello, how do you do?",
    ]),
    ("I am fine, thank you.", ["How are you?", "How are you today?", "How do you feel?", "Are you well?", "Hi, how are you?"]),
    ("You are welcome!", ["Thanks!", "Thank you!", "Thank you very much.", "Many thanks.", "Thanks a lot!", "Great, thanks!", "thx"]),
    ("Glad to hear it!", ["Great!", "Good job!", "Well done!", "Nice!", "Wonderful.", "That is right.", "Correct!", "Cool"]),
    ("Goodbye!", ["Bye!", "Goodbye.", "See you later!", "Good night!", "Bye bye", "See you.", "I have to go."]),
]

_ASIDE = [
    "What is the capital of {place}?", "Tell me a joke.", "Write a poem about a {word}.", "Why is the {word} {color}?",
    "Who wrote {word}?", "How old is {name}?", "Where is {place}?", "What is a {word}?", "Who is {name}?",
    "Tell me about the {word}.", "Translate {word} into French.", "What is the weather in {place}?",
    "What is {a} * {b}?", "What is {a} times {b}?", "What is {a} / {b}?", "Divide {a} by {b}.",
    "Multiply {a} by {b}.", "What is {big} + {a}?", "{big} - {big}", "What is {a} + {big}?", "What time is it?",
    "Sing a song about {name}.", "Do you like {word}?", "Write code that sorts a list.", "Explain the {word}.",
    "How do I cook a {word}?", "What is the meaning of life?", "Summarize this text.", "{word}", "{word} {word2}",
    "the {word} and the {word2}", "I like {word}.", "Can you drive a {word}?", "How many {word}s are in a {word2}?",
    "What color is the {word}?", "Is {place} larger than {place2}?", "Where do {word}s live?", "{color} {word}",
    "Who is the president of {place}?", "When was {name} born?", "asdf", "???", "ok", "Yes", "No", "What?", "Why?",
    "How does a {word} work?", "What does {word} mean?", "Give me a recipe for {word}.", "Play some music.",
]
_PLACES = "France Japan Kenya Peru Spain Norway Egypt India Brazil Canada Rome Paris London Tokyo Berlin Thailand".split()
_COLORS = "red blue green yellow black white brown".split()
# Other scripts, so that no input is out of distribution altogether: greetings and scraps.
_ELSEWHERE = [
    "สวัสดี", "สวัสดีครับ", "你好", "こんにちは", "안녕하세요", "привет", "γειά σου", "שלום", "مرحبا", "नमस्ते", "😀", "🎉🎉",
    "👋", "¿Qué tal?", "Guten Tag", "Wie geht es dir?", "Bonjour", "Où est la gare?", "Žluťoučký kůň", "東京",
    "ขอบคุณ", "日本語", "что это?", "❤️", "naïve café",
]


def small_talk(rng: random.Random, rough: bool = True) -> Question:
    """A greeting, a farewell, thanks, or a question about the model itself."""
    answer, prompts = rng.choices(_TALK, (6, 3, 2, 2, 2, 2))[0]
    prompt = rng.choice(prompts)
    return Question("talk", sloppy(rng, prompt) if rough else prompt, answer)


def aside(rng: random.Random) -> Question:
    """Something that the models cannot do, and how they say so."""
    if rng.random() < 0.2:
        text = rng.choice(_ELSEWHERE)
        if rng.random() < 0.5:
            text = "".join(rng.sample(text, len(text)))
        return Question("aside", text, UNSURE)
    place, place2 = rng.sample(_PLACES, 2)
    word, word2 = rng.sample(WORDS, 2)
    pattern = sloppy(rng, rng.choice(_ASIDE)) if rng.random() < 0.5 else rng.choice(_ASIDE)
    prompt = pattern
    for key, value in {
        "place": place, "place2": place2, "word": word, "word2": word2, "color": rng.choice(_COLORS),
        "name": rng.choice(NAMES), "a": rng.randrange(1000), "b": rng.randrange(1000),
        "big": rng.randrange(1000, 100_000),
    }.items():
        prompt = prompt.replace("{" + key + "}", str(value))
    return Question("aside", prompt, UNSURE)


def closed_set() -> list[Question]:
    """Every small-talk prompt as it stands, once."""
    seen = {}
    for answer, prompts in _TALK:
        for prompt in prompts:
            seen.setdefault(prompt, Question("talk", prompt, answer))
    return list(seen.values())
