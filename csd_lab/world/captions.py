"""Sentences about scenes, from a small closed vocabulary."""

from csd_lab.world.looks import LOOKS
from csd_lab.world.scene import COLOURS, GROUNDS, KINDS, SEASONS, SKIES, Scene

PLURALS = {"ball": "balls", "box": "boxes", "cone": "cones", "tree": "trees", "house": "houses"}
LOOK_PHRASES = {
    "sepia": "in sepia",
    "grey": "in grey",
    "warm": "warm light",
    "cold": "cold light",
    "dark": "dark",
    "bright": "bright",
    "faded": "faded",
    "negative": "a negative",
}
TEXTURE_CAPTION = "a texture"


def caption(scene: Scene) -> str:
    """Describe a scene in at most 22 words.

    Args:
        scene: the scene; of more than three different objects, only three are named.

    Returns:
        For instance "a red ball and a tree on snow under an orange sky, in winter, at night".
    """
    place = f"{scene.ground} under {_article(scene.sky)} sky"
    things = _things(scene)
    text = f"{things} on {place}" if things else place
    if scene.season != "summer":
        text += f", in {scene.season}"
    if scene.time == "night":
        text += ", at night"
    return text if scene.look is None else _with_look(text, scene.look)


def texture_caption(look: str | None = None) -> str:
    """Describe a procedural texture, with a look if there is one."""
    return TEXTURE_CAPTION if look is None else _with_look(TEXTURE_CAPTION, look)


def vocabulary() -> tuple[str, ...]:
    """Return every word (and the comma) that a caption or an instruction can contain, sorted."""
    words = {"a", "an", "and", "on", "under", "sky", "in", "at", "night", "day", ",", "texture"}
    words |= {"make", "it", "the", "turn", "into", "something", "else", "remove", "change"}
    words |= {"repaint", "ground", "season", "look"}
    words |= set(KINDS) | set(PLURALS.values()) | set(COLOURS) | set(SKIES) | set(GROUNDS)
    words |= set(SEASONS) | set(LOOKS)
    words |= {word for phrase in LOOK_PHRASES.values() for word in phrase.split()}
    return tuple(sorted(words))


def _things(scene: Scene) -> str:
    """Name the objects: "a red ball, a blue box and a tree"; "" without objects."""
    counts: dict[str, int] = {}
    plural: dict[str, str] = {}
    for thing in scene.objects:
        prefix = "" if thing.kind == "tree" else f"{thing.colour} "
        name = prefix + thing.kind
        counts[name] = counts.get(name, 0) + 1
        plural[name] = prefix + PLURALS[thing.kind]
    names = [plural[n] if count > 1 else _article(n) for n, count in counts.items()][:3]
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _article(words: str) -> str:
    """Put "a" or "an" before words."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _with_look(text: str, look: str) -> str:
    """Append the phrase of a look."""
    return f"{text}, {LOOK_PHRASES[look]}"
