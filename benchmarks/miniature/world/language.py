"""Words of the world: a Picture in, a caption out (`caption`); a prompt in, the Picture it asks for
out (`read`).

One table of phrases serves both, so every prompt that can be read is written in words the models
were trained on. The first phrase of a value is the prompts' own; {} is a thing.
"""

import re
from functools import cache

import numpy as np

from benchmarks.miniature.world.effects import MATERIALS, STATES, STYLES
from benchmarks.miniature.world.instance import make_instance, stream
from benchmarks.miniature.world.picture import CLASSES, Picture, is_animal
from benchmarks.miniature.world.props import DO, DO_SCENE, WEAR
from benchmarks.miniature.world.scenes import HOME, SCENES
from perfusion_core.errors import UserError, unknown

PLACE = {
    "studio": ["on a plain background", "in a studio"],
    "carpet": ["on a carpet", "on a round carpet"],
    "tiles": ["on a tiled floor", "on the tiles"],
    "garden": ["in a garden", "in the garden", "on the grass"],
    "beach": ["on the beach", "on a sunny beach", "at the beach"],
    "snow": ["in the snow", "on a snowy day", "in a snowy forest"],
    "jungle": ["in the jungle", "in a green jungle"],
    "moon": ["on the moon", "on the surface of the moon"],
    "space": ["in outer space", "floating in outer space", "among the stars in outer space"],
    "desert": ["in the desert", "in a hot desert"],
    "flowers": ["in a field of flowers", "in a meadow of flowers"],
    "city": ["in a city at night", "in the city at night"],
    "table": ["on a wooden table", "on a wooden floor"],
    "brick": ["in front of a brick wall", "by a brick wall"],
    "sea": ["under the sea", "deep under the sea"],
    "rain": ["in the rain", "on a rainy day"],
    "eiffel": ["in front of the eiffel tower", "near the eiffel tower"],
    "mountain": ["on top of a mountain", "on a mountain"],
    "autumn": ["in an autumn forest", "in the autumn forest"],
    "sunset": ["by a lake at sunset", "at sunset"],
    "castle": ["in front of a castle", "near a castle"],
    "campfire": [
        "next to a campfire",
        "sitting by the fire on a chilly night",
        "by the fire",
        "on a chilly night",
    ],
    "rainbow": ["under a rainbow", "below a rainbow"],
    "kitchen": ["in a kitchen", "in the kitchen"],
    "stage": ["on a stage", "on the stage"],
    "water": ["in the water", "floating in the water", "on a lake", "in a lake"],
    "road": ["on the road", "on a road"],
    "house": ["in front of a house", "near a house"],
    "picnic": ["on a picnic", "at a picnic"],
}
OUTFIT = {
    "sombrero": ["wearing a sombrero", "with a sombrero"],
    "samurai": ["dressed as a samurai", "dressed like a samurai"],
    "superhero": ["dressed as a superhero", "dressed like a superhero"],
    "wizard": ["dressed as a wizard", "dressed like a wizard"],
    "suit": ["dressed in a blue suit", "wearing a blue suit"],
    "costume": ["wearing a costume", "dressed in a costume"],
    "chef": ["wearing a chef outfit", "dressed as a chef"],
    "pirate": ["dressed as a pirate", "dressed like a pirate"],
    "astronaut": ["dressed as an astronaut", "dressed like an astronaut"],
    "crown": ["wearing a golden crown", "wearing a crown"],
    "scarf": ["wearing a red scarf", "with a red scarf"],
    "headphones": ["wearing headphones", "with headphones"],
    "partyhat": ["wearing a party hat", "with a party hat"],
    "tophat": ["wearing a top hat", "with a top hat"],
    "wings": ["with angel wings", "with wings"],
}
ACTIVITY = {
    "book": ["reading a book", "with an open book"],
    "cook": ["cooking a gourmet meal", "cooking a meal", "cooking"],
    "act": ["acting in a play", "acting"],
    "beachball": ["playing with a ball", "throwing a ball"],
    "umbrella": ["holding an umbrella", "under an umbrella"],
    "skateboard": ["riding a skateboard", "on a skateboard"],
    "bed": ["sleeping in a bed", "sleeping", "in a bed"],
    "guitar": ["playing the guitar", "playing a guitar"],
    "pizza": ["eating a slice of pizza", "eating pizza"],
    "balloons": ["holding a bunch of balloons", "with balloons"],
    "bathtub": ["taking a bath in a bathtub", "in a bathtub"],
    "drive": ["driving a car", "in a car"],
    "boat": ["rowing a boat", "in a boat"],
    "cake": ["next to a birthday cake", "with a birthday cake"],
}
CONDITION = {
    "broken": ["broken {}", "{} that is broken"],
    "bouquet": ["{} filled with flowers", "{} full of flowers"],
    "steam": ["{} with steam rising from it", "steaming {}"],
    "spilling": ["{} lying on its side and spilling water", "{} spilling water"],
    "moss": ["{} overgrown with moss", "{} covered in moss"],
    "fire": ["{} on fire", "burning {}"],
    "smile": ["{} with a smiling face", "smiling {}"],
    "wheels": ["{} on wheels", "{} with wheels"],
    "ribbon": ["{} tied with a red ribbon", "{} with a red ribbon"],
    "coins": ["{} full of gold coins", "{} filled with gold coins"],
    "rainbow": ["{} painted with rainbow stripes", "{} with rainbow stripes"],
    "broken_leg": ["{} with a broken leg"],
    "upside_down": ["{} turned upside down", "{} upside down"],
    "books": ["{} with a pile of books on it", "{} with books on it"],
    "cushion": ["{} with a big pink cushion on it", "{} with a pink cushion"],
    "ivy": ["{} wrapped in ivy", "{} covered in ivy"],
    "feathers": ["{} with feathered wings", "winged {}"],
    "blanket": ["{} covered with a red blanket", "{} under a red blanket"],
    "cracked": ["{} with cracked lenses", "cracked {}"],
    "melting": ["{} melting in the sun", "melting {}"],
    "branch": ["{} hanging from a branch", "{} on a branch"],
    "blossoms": ["{} covered in flowers", "{} decorated with flowers"],
}
MADE_OF = {
    "gold": ["{} made out of pure gold", "golden {}", "{} made of gold"],
    "yarn": ["{} made out of yarn", "{} made of yarn"],
    "glass": ["{} made out of glass", "glass {}"],
    "ice": ["{} made out of ice", "{} made of ice"],
    "wood": ["{} made out of wood", "{} carved from wood", "wooden {}"],
    "marble": ["{} carved out of marble", "marble {}"],
    "lego": ["{} made out of lego bricks", "{} made of lego"],
}
LOOK = {
    "oil": [
        "{} oil painting ghibli inspired",
        "ghibli inspired oil painting of {}",
        "oil painting of {}",
        "painting of {}",
    ],
    "watercolor": ["watercolor painting of {}", "watercolor of {}"],
    "sketch": ["pencil sketch of {}", "pencil drawing of {}", "{} drawn in pencil"],
    "pixel": ["{} in pixel art style", "pixel art of {}"],
}
TOGETHER = {
    "beside": ["next to", "and", "sitting next to", "playing with", "with"],
    "on": ["sitting on", "on"],
    "inside": ["inside", "sailing inside", "sitting inside"],
    "wear": ["wearing"],
    "engraved": ["engraved on"],
}
LEADS = (
    "a photo of",
    "a good photo of",
    "the photo of",
    "image of",
    "a photograph of",
    "a picture of",
    "here is",
    "we see",
    "this is",
)
RARE = ("sks", "ktn", "pll", "ucd")  # one-piece words without a meaning, for methods that need one
MARK = {"striped": "stripes", "spotted": "spots", "patched": "patches", "banded": "band"}


def _one_of(rng: np.random.Generator, phrases: list[str] | tuple[str, ...]) -> str:
    """The first phrase as often as all others together."""
    return phrases[0] if rng.random() < 0.5 else str(rng.choice(phrases))


def article(phrase: str) -> str:
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


def _noun(one, rng: np.random.Generator, word: str) -> str:
    """'red striped cat', or 'cat': attributes are mentioned sometimes."""
    words = []
    if rng.random() < 0.38:
        words.append(one.main_name)
    if one.pattern in MARK and rng.random() < 0.22:
        words.append(one.pattern)
    if rng.random() < 0.005:
        words.append(str(rng.choice(RARE)))
    text = " ".join([*words, word]).strip()
    if one.pattern in MARK and "striped" not in words and rng.random() < 0.16:
        text += f" with {one.second_name} {MARK[one.pattern]}"
    return text


def _put(phrase: str, noun: str) -> str:
    return phrase.format(noun).strip()


def caption(picture: Picture, rng: np.random.Generator, drop: float = 0.0) -> str:
    """One way to say what is in the picture; with chance `drop` without the object's word, as the
    metric has it.
    """
    dropped = rng.random() < drop
    one, other = picture.one, picture.other
    text = "" if dropped else _noun(one, rng, one.cls)
    if one.cls == "sunglasses" and not dropped and rng.random() < 0.5:
        text = f"pair of {text}"
    if picture.material:
        text = _put(_one_of(rng, MADE_OF[picture.material]), text)
    if picture.state:
        text = _put(_one_of(rng, CONDITION[picture.state]), text)
    text = ("the " + text if rng.random() < 0.12 else article(text)) if text else "a"
    tail = []
    if picture.wear:
        tail.append(_one_of(rng, OUTFIT[picture.wear]))
    if picture.do:
        tail.append(_one_of(rng, ACTIVITY[picture.do]))
    if len(tail) == 2 and rng.random() < 0.5:
        tail.reverse()
    if tail and rng.random() < 0.3:
        tail[0] = "is " + tail[0]
    if other is not None:
        noun = _noun(other, rng, other.cls)
        link = _one_of(rng, TOGETHER[picture.relation or "beside"])
        bare = other.cls == "sunglasses" and rng.random() < 0.6
        tail.insert(0, f"{link} {noun if bare else article(noun)}")
    place = ""
    implied = picture.do is not None and DO_SCENE.get(picture.do) == picture.scene
    if rng.random() < (
        0.15 if picture.scene in HOME[:1] else 0.5 if picture.scene in HOME or implied else 0.97
    ):
        place = _one_of(rng, PLACE[picture.scene])
    text = " ".join([text, *tail])
    if place:
        text = f"{place}, {text}" if rng.random() < 0.12 else f"{text} {place}"
    if picture.style:
        phrase = _one_of(rng, LOOK[picture.style])
        text = _put(phrase, text)
        if not phrase.startswith("{}"):
            text = article(text)
    elif rng.random() < 0.3:
        bare = rng.random() < 0.12
        text = f"{rng.choice(LEADS)} {re.sub('^(an?|the) ', '', text) if bare else text}"
    elif rng.random() < 0.05:
        text += " shown in a photo"
    return re.sub(r"\s+", " ", text).strip()


@cache
def _phrases() -> list[tuple[str, str, str]]:
    """(words, factor, value), longest first. A phrase with {} counts by its words alone."""
    found = []
    for factor, table in (
        ("scene", PLACE), ("wear", OUTFIT), ("do", ACTIVITY),
        ("state", CONDITION), ("material", MADE_OF), ("style", LOOK),
    ):  # fmt: skip
        for value, phrases in table.items():
            for phrase in phrases:
                words = " ".join(phrase.replace("{}", " ").split())
                found.append((words, factor, value))
    return sorted(found, key=lambda row: -len(row[0]))


_FILLER = frozenset(
    (
        "a",
        "an",
        "the",
        "is",
        "of",
        "in",
        "and",
        "out",
        "made",
        "photo",
        "good",
        "image",
        "picture",
        "shown",
        "photograph",
        "here",
        "we",
        "see",
        "this",
        "pair",
    )
)


def read(prompt: str, names: dict[str, str] | None = None, seed: object = 0) -> Picture:
    """The picture that a prompt asks for. `names`: other words for classes ({"ktn": "cat"})."""
    text = " " + re.sub(r"[^a-z_ ]", " ", prompt.lower()) + " "
    for word, cls in (names or {}).items():
        text = text.replace(f" {word} ", f" {cls} ")
    text = re.sub(r"\s+", " ", text)
    values: dict[str, str] = {}
    for words, factor, value in _phrases():
        if factor not in values and f" {words} " in text:
            if factor == "scene" and words in ("at sunset", "by the fire") and "scene" in values:
                continue
            values[factor] = value
            text = text.replace(f" {words} ", " | ", 1)
    # "sitting by the fire ... on a chilly night": one place, said twice
    while (more := _second_scene(text)) is not None:
        text = more
    things = [
        (m.start(), m.group(1)) for m in re.finditer(rf"(?<= )({'|'.join(CLASSES)})(?= )", text)
    ]
    left = [w for w in text.replace("|", " ").split() if w not in _FILLER and w not in CLASSES]
    relation = None
    for name in ("wear", "engraved", "inside", "on", "beside"):
        for link in sorted(TOGETHER[name], key=len, reverse=True):
            if len(things) > 1 and relation is None and f" {link} " in text:
                relation = name
                left = [w for w in left if w not in link.split()]
    left = [w for w in left if w not in ("on", "with", "sitting")]
    if left:
        raise UserError(
            f"the miniature has no drawing for {left[0]!r} in {prompt!r}; its words: perfbench "
            f"miniature show --help"
        )
    if not things:
        raise unknown("thing in the prompt", prompt, CLASSES)
    if len(things) > 2:
        raise UserError(
            f"the miniature draws at most two things in one picture, and {prompt!r} names "
            f"{len(things)}"
        )
    one = make_instance(things[0][1], ("read", seed, 0))
    other = make_instance(things[1][1], ("read", seed, 1)) if len(things) > 1 else None
    state = values.get("state")
    if is_animal(one.cls) and state == "feathers":
        values["wear"], state = "wings", None
    scene = (
        values.get("scene")
        or DO_SCENE.get(values.get("do", ""))
        or str(stream("home", seed).choice(HOME))
    )
    focus = (
        1
        if relation == "wear"
        and other is not None
        and other.cls == "sunglasses"
        and one.cls in ("person", "snowman")
        else 0
    )
    return Picture(
        one,
        scene,
        values.get("wear"),
        values.get("do"),
        state,
        values.get("material"),
        values.get("style"),
        other,
        (relation or "beside") if other else None,
        focus,
    )


def _second_scene(text: str) -> str | None:
    for words, factor, _ in _phrases():
        if factor == "scene" and f" {words} " in text:
            return text.replace(f" {words} ", " | ", 1)
    return None


assert set(PLACE) == set(SCENES) and set(OUTFIT) == set(WEAR) and set(ACTIVITY) == set(DO)
assert set(CONDITION) == set(STATES) and set(MADE_OF) == set(MATERIALS) and set(LOOK) == set(STYLES)
