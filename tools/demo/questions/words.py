"""The vocabulary of the word and name tasks: two hand-written lists and the made-up rest.

Real words alone are too few to teach spelling in general, so most training operands are made up:
syllables that look like English, and plain random letters. The lists make the held-out questions
read like ones a person would ask.
"""

import random

WORDS = """
acorn actor alarm album amber anchor angle animal ankle apple apron arrow artist autumn badge bagel
baker balance ball bamboo banana banjo barrel basket beach beacon bean bear beaver beetle bell bench
berry bike birch bird biscuit blanket blossom boat bone book boot bottle bowl box branch bread breeze
brick bridge broom brother brush bubble bucket butter button cabin cactus cake camel camera candle
canyon cap captain car carpet carrot castle cat cave cedar cellar chain chair chalk cheese cherry
chess chicken chimney circle city clay clock cloud clover coal coast coat cobweb cocoa coffee comb
comet copper coral corner cotton cousin cow crab cradle crane crayon cricket crow crown crystal cup
curtain daisy dance dawn deer desert desk dinner doctor dog dolphin donkey door dove dragon drawer
dream dress drum duck dust eagle ear earth east egg elbow elm engine evening eye fabric falcon family
farm farmer feather fence fern ferry field finger fire fish flag flame flower flute fog forest fork
fox frog fruit galaxy garden garlic gate ghost giant ginger giraffe glass globe glove goat gold goose
grape grass gravel green guitar hammer hand harbor hat hawk hazel heart hedge hen herb heron hill
honey hood hook horn horse hotel house ice insect iron island ivory ivy jacket jar jewel jungle
kettle key kitchen kite kitten knee knife ladder lake lamb lamp lantern lark laundry lava lawn leaf
leather lemon lentil letter lettuce library light lily lime lion lizard lobster locket lotus lunch
magnet mango map maple marble market mask meadow melon metal milk mill mint mirror mist mole monkey
moon morning moss moth motor mountain mouse mud museum music nail napkin nature needle nest night
north nose note number nurse nut oak oar oasis ocean olive onion opera orange orbit orchard otter oven
owl paddle paint palace palm panda paper parade park parrot path pea peach peanut pear pebble pelican
pen pencil pepper piano pickle picnic pie pig pigeon pillow pilot pine pipe pirate planet plate plum
pocket poem pond pony poppy potato prince pumpkin puppy purple puzzle queen quilt rabbit radio raft
rain rainbow raven ribbon rice ring river road robin robot rock rocket roof room root rope rose rubber
ruby rug sail sailor salad salt sand sandal scarf school sea seal seed shadow shark sheep shell ship
shirt shoe shore silk silver sister ski sky sled snail snake snow soap sock sofa soil song soup south
spade sparrow spice spider spoon spring squash stable stamp star station steam steel stone stool storm
story stove straw stream street string sugar summer sun sunset supper swan sweater swing table tailor
tea teacher temple tent thimble thread thumb thunder ticket tiger tile timber toast tomato tooth torch
tower town toy tractor train tray tree truck trumpet tulip tunnel turkey turtle twig umbrella uncle
valley vase velvet village vine violet violin wagon wall walnut water wave wax well west whale wheat
wheel whistle willow wind window wing winter wolf wood wool world worm wren yard yarn year yellow
zebra zero zipper
""".split()

NAMES = """
Ada Adam Agnes Alan Alba Alex Alice Alma Amara Amir Amy Ana Andre Anna Anton Anya Ari Arthur Asha Ava
Bella Ben Boris Bruno Carl Carmen Chen Chloe Clara Dan Dana David Diana Dora Eli Elif Elsa Emil Emma
Erik Esther Eva Fatima Felix Finn Flora Frank Freya George Gita Grace Greta Hana Hassan Helen Henry
Hugo Ida Igor Ines Ingrid Iris Ivan Jack Jana Jane Jin Joan Joel John Jonas Josef Julia June Kai Karen
Karl Kate Kenji Kim Lara Laura Lea Leo Lily Lina Liam Luca Lucy Luis Maja Mara Marco Maria Mark Marta
Mary Max Maya Mei Mia Mila Mina Moses Nadia Nico Nina Noah Nora Olga Oliver Omar Oscar Otto Pablo Paul
Petra Pia Priya Rahul Ravi Rita Robert Rosa Ruth Sam Sana Sara Selma Simon Sofia Sven Tara Tessa Theo
Tina Tom Uma Vera Victor Viola Wanda Wei Will Yara Yuki Zara Zoe
""".split()

_ONSETS = """b c d f g h j k l m n p r s t v w y z bl br ch cl cr dr fl fr gl gr pl pr qu sc sh sk sl
sm sn sp st str sw th tr tw wh""".split()
_VOWELS = "a a e e i i o o u y ai ea ee ie oa oo ou".split()
_CODAS = "b d g k l m n p r s t x ck ll nd ng nk nt rd rk rn sh ss st th".split()
_LETTERS = "abcdefghijklmnopqrstuvwxyz"

MAX_LETTERS = 10


def made_up_word(rng: random.Random) -> str:
    """One to four syllables that could be English, 2 to `MAX_LETTERS` letters."""
    while True:
        parts = []
        for _ in range(rng.choices((1, 2, 3, 4), (3, 6, 4, 1))[0]):
            if rng.random() < 0.85:
                parts.append(rng.choice(_ONSETS))
            parts.append(rng.choice(_VOWELS))
            if rng.random() < 0.45:
                parts.append(rng.choice(_CODAS))
        word = "".join(parts)
        if 2 <= len(word) <= MAX_LETTERS:
            return word


def random_letters(rng: random.Random) -> str:
    """Letters with no pattern at all, 2 to `MAX_LETTERS` of them."""
    return "".join(rng.choices(_LETTERS, k=rng.randint(2, MAX_LETTERS)))


def any_word(rng: random.Random) -> str:
    """A word to spell or reverse, before the split has its say."""
    kind = rng.random()
    if kind < 0.3:
        return rng.choice(WORDS)
    return made_up_word(rng) if kind < 0.75 else random_letters(rng)


def any_name(rng: random.Random) -> str:
    """A first name; half are made up, so that the model copies rather than remembers."""
    if rng.random() < 0.5:
        return rng.choice(NAMES)
    return made_up_word(rng).capitalize()
