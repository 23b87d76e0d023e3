"""200 captions of ours: what the merge of Custom Diffusion must leave as it is. Nothing in, the
texts out.

Words that Stable Diffusion knows and, for the most part, the miniature as well; each thing meets
several places.
"""

ONES = (
    "red ball",
    "wooden chair",
    "small dog",
    "white cat",
    "old lamp",
    "blue car",
    "round clock",
    "green mug",
    "broken pot",
    "golden crown",
    "striped shoe",
    "yellow flower",
    "person",
    "snowman",
    "horse",
    "child",
    "tall tree",
    "boat",
    "birthday cake",
    "guitar",
    "open book",
    "red umbrella",
    "glass bottle",
    "stone bridge",
    "brown bear",
)
DOING = (
    "on the beach",
    "in the snow",
    "in a garden with flowers",
    "on a wooden table",
    "next to a campfire",
    "in front of a castle",
    "under a rainbow",
    "in a city at night",
    "by a lake at sunset",
    "on the road",
    "near the mountain",
    "in a kitchen",
    "on a stage",
    "floating in the water",
    "against a brick wall",
    "seen from above",
    "in the rain",
    "among the stars",
    "at a picnic",
    "covered in moss",
)
LOOKS = (
    "{}",
    "a painting of {}",
    "{} and its shadow",
    "two friends with {}",
    "here is {}",
    "a pencil sketch of {}",
)
MANY = 200


def captions() -> list[str]:
    """All different: the things come round every 25 captions, the places every 20, the looks every
    6.
    """
    found = []
    for n in range(MANY):
        one, doing, look = (
            ONES[n % len(ONES)],
            DOING[(n + n // 100) % len(DOING)],
            LOOKS[n % len(LOOKS)],
        )
        article = "an" if one[0] in "aeiou" else "a"
        found.append(look.format(f"{article} {one} {doing}"))
    return found
