"""What the clients have in common: where the servers are, what is asked, and what is known of the answers."""

import json
import os
import time
import urllib.request

URL = os.environ["ML_URL"]
#: Asks for the key `secret`, and takes one answer at a time.
LOCKED_URL = os.environ["ML_LOCKED_URL"]
#: The demo model, random weights that are made to call tools, and some whose answers last until they are left.
DEMO, RANDOM, ENDLESS = "qwen3-demo", "random", "endless"
#: Seconds in which no answer of `ENDLESS` ends, on any machine.
SOON = 0.5

SUM, SPELL = "What is 17 + 25?", "Spell the word garden."
SPELLED = "g-a-r-d-e-n"
#: Letters of several bytes and signs of several letters, which tokens cut anywhere.
UNICODE = "สวัสดีชาวโลก 👩‍👩‍👧🇹🇭 naïve ✓ 你好"
UNICODE_SCHEMA = {
    "type": "object",
    "properties": {"greeting": {"const": UNICODE}},
    "required": ["greeting"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "object",
    "properties": {"city": {"enum": ["Bangkok", "Zürich"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}


def user(text):
    return [{"role": "user", "content": text}]


def is_weather(arguments):
    """Whether arguments, as JSON or an object, are under the schema."""
    value = json.loads(arguments) if isinstance(arguments, str) else arguments
    return set(value) == {"city", "days"} and value["city"] in ("Bangkok", "Zürich") and 1 <= value["days"] <= 9


def raises(expected, call, **known):
    """The error of `call`, which has to be of that type and to have these attributes."""
    try:
        call()
    except expected as error:
        assert type(error) is expected, repr(error)
        for name, value in known.items():
            assert getattr(error, name) == value, (name, getattr(error, name), error)
        return error
    raise AssertionError(f"no {expected.__name__}")


def under_way(url=URL):
    with urllib.request.urlopen(f"{url}/health") as answer:
        health = json.load(answer)
    return health["running"] + health["waiting"]


def becomes_free(url=URL, seconds=100.0):
    """An answer that nobody waits for any more gives its place back."""
    since = time.monotonic()
    while under_way(url):
        assert time.monotonic() - since < seconds, "a place is not given back"
        time.sleep(0.01)


def done(*packages):
    from importlib.metadata import version

    print(", ".join(f"{package} {version(package)}" for package in packages) + ": as it should be")
