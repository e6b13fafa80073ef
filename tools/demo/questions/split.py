"""Which operands training never sees.

The split is by what is asked about, not by how: a held-out operand appears in no training question
of its task under any phrasing. A hash decides, so the rule needs no list and any process can apply it.
Pairs are unordered (holding out 17 + 25 holds out 25 + 17), and a held-out word is held out of
spelling and of reversing both. What cannot be worked out from the rest is not held out: words that the
questions themselves are made of, and (see `tasks`) the first and last days of months.
"""

import hashlib

from .phrasing import VOCABULARY

SEED = 20_261_122

# Held-out share of each kind of operand, in thousandths.
_SHARE = {"sum": 40, "difference": 40, "compare": 40, "date": 100, "month": 80, "word": 80, "name": 80}

# The README's question stays out of training, whatever the hash says.
_ALWAYS_HELD_OUT = {("sum", (17, 25))}


def is_held_out(kind: str, *operands) -> bool:
    """Whether a question of this kind about these operands belongs to the held-out side."""
    if (kind, operands) in _ALWAYS_HELD_OUT:
        return True
    if kind == "word" and operands[0] in VOCABULARY:
        return False
    text = f"{SEED}/{kind}/" + "/".join(str(operand) for operand in operands)
    digest = hashlib.blake2b(text.encode(), digest_size=4).digest()
    return int.from_bytes(digest) % 1000 < _SHARE[kind]
