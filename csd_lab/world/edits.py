"""Edit instructions with their exact answers.

One-to-one instructions have one right answer ("make the ball red"). One-to-many instructions
have several ("repaint the ball"): the present state is not among them, and they are far apart.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from csd_lab.world.looks import LOOKS
from csd_lab.world.sample import as_generator
from csd_lab.world.scene import (
    COLOURS,
    KINDS,
    PAINTABLE,
    PLAIN_GROUNDS,
    SEASONS,
    SKIES,
    Scene,
    Thing,
)

FAMILY_WEIGHTS: Mapping[str, float] = {
    "recolour": 0.25,
    "replace": 0.10,
    "remove": 0.08,
    "sky": 0.12,
    "ground": 0.09,
    "season": 0.06,
    "night": 0.04,
    "look": 0.10,
    "many": 0.16,
}
MANY_COLOURS = ("red", "yellow", "green", "blue", "purple")  # orange is too near to two of them
MANY_LOOKS = ("sepia", "cold", "dark", "faded", "negative")
MANY_SKIES = ("blue", "orange", "pink", "purple", "green", "grey")
IN_TURN = ", then "
"""What stands between instructions that are followed one after the other."""
GROWTH = {"tree": 1.65}  # a tree of the same size parameter would be too small


@dataclass(frozen=True)
class Edit:
    """An instruction for a scene, and its right answers.

    Attributes:
        instruction: what the user says.
        family: one of ``FAMILY_WEIGHTS``.
        many: True for a one-to-many instruction.
        answers: the right answers; one, or at least two if ``many``.
    """

    instruction: str
    family: str
    many: bool
    answers: tuple[Scene, ...]


def _recolour(colour: str, kind: str, scene: Scene) -> Scene:
    return _each(scene, kind, lambda thing: replace(thing, colour=colour))


def _turn(new: str, kind: str, scene: Scene) -> Scene:
    return _each(
        scene,
        kind,
        lambda thing: replace(
            thing,
            kind=new,
            size=thing.size * GROWTH.get(new, 1.0),
            variant=0,
            striped=thing.striped and new in PAINTABLE,
        ),
    )


def _remove(kind: str, scene: Scene) -> Scene:
    return replace(scene, objects=tuple(o for o in scene.objects if o.kind != kind))


def _season(season: str, scene: Scene) -> Scene:
    """Change the season; where that would not show, or only on trees, return the scene itself."""
    ground = SEASONS[season][0]
    if season == scene.season or ground == scene.ground:
        return scene
    return replace(scene, season=season, ground=ground)


def _set(scene: Scene, **changes: str) -> Scene:
    return replace(scene, **changes)  # type: ignore[arg-type]


def _each(scene: Scene, kind: str, change: Callable[[Thing], Thing]) -> Scene:
    """Apply a change to every object of a kind."""
    return replace(scene, objects=tuple(change(o) if o.kind == kind else o for o in scene.objects))


@dataclass(frozen=True)
class _Rule:
    """An instruction as a function of the scene; ``kind`` is the object that it speaks of."""

    instruction: str
    family: str
    changes: tuple[Callable[[Scene], Scene], ...]
    kind: str | None = None

    @property
    def many(self) -> bool:
        return self.family == "many"

    def edit(self, scene: Scene, plural: bool) -> Edit | None:
        """Return the edit of a scene, or None where it is ambiguous or changes nothing."""
        if self.many and scene.time == "night":
            return None  # in the dark the answers look too much alike
        if self.kind is not None and not _unambiguous(scene, self.kind, plural):
            return None
        answers = tuple(a for change in self.changes if (a := change(scene)) != scene)
        if not answers or (self.many and len(answers) < 2):
            return None
        return Edit(self.instruction, self.family, self.many, answers)


def _unambiguous(scene: Scene, kind: str, plural: bool) -> bool:
    """Tell whether "the <kind>" means one object, or (plural) several of one colour."""
    colours = [thing.colour for thing in scene.objects if thing.kind == kind]
    return len(colours) == 1 or (plural and len(colours) > 1 and len(set(colours)) == 1)


def _one_to_one() -> list[_Rule]:
    """Build the one-to-one instructions."""
    rules = [
        _Rule(f"make the {k} {c}", "recolour", (partial(_recolour, c, k),), k)
        for k in PAINTABLE
        for c in COLOURS
    ]
    rules += [
        _Rule(f"turn the {k} into a {new}", "replace", (partial(_turn, new, k),), k)
        for k in PAINTABLE
        for new in PAINTABLE
        if new != k
    ]
    rules += [_Rule(f"remove the {k}", "remove", (partial(_remove, k),), k) for k in KINDS]
    rules += [_Rule(f"make the sky {s}", "sky", (partial(_set, sky=s),)) for s in SKIES]
    rules += [
        _Rule(f"make the ground {g}", "ground", (partial(_set, ground=g),)) for g in PLAIN_GROUNDS
    ]
    rules += [_Rule(f"make it {s}", "season", (partial(_season, s),)) for s in SEASONS]
    rules += [_Rule(f"make it {t}", "night", (partial(_set, time=t),)) for t in ("night", "day")]
    rules += [_Rule(f"make it {name}", "look", (partial(_set, look=name),)) for name in LOOKS]
    return rules


def _one_to_many() -> list[_Rule]:
    """Build the one-to-many instructions."""
    rules = [
        _Rule("change the sky", "many", tuple(partial(_set, sky=s) for s in MANY_SKIES)),
        _Rule("change the ground", "many", tuple(partial(_set, ground=g) for g in PLAIN_GROUNDS)),
        _Rule("change the season", "many", tuple(partial(_season, s) for s in SEASONS)),
        _Rule("change the look", "many", tuple(partial(_set, look=n) for n in MANY_LOOKS)),
    ]
    for k in PAINTABLE:
        paints = tuple(partial(_recolour, c, k) for c in MANY_COLOURS)
        rules.append(_Rule(f"repaint the {k}", "many", paints, k))
        turns = tuple(partial(_turn, new, k) for new in (*PAINTABLE, "tree") if new != k)
        rules.append(_Rule(f"turn the {k} into something else", "many", turns, k))
    return rules


_RULES = (*_one_to_one(), *_one_to_many())


def instructions(many: bool | None = None, family: str | None = None) -> tuple[str, ...]:
    """List the instructions that exist.

    Args:
        many: True for one-to-many only, False for one-to-one only, None for both.
        family: only those of one family.

    Returns:
        The instructions, in a fixed order.
    """
    _check_family(family)
    return tuple(
        r.instruction for r in _RULES if many in (None, r.many) and family in (None, r.family)
    )


def edits_for(scene: Scene, plural: bool = False) -> tuple[Edit, ...]:
    """List the edits that a scene allows: unambiguous ones that change something.

    Args:
        scene: the scene; one that already has a look allows none.
        plural: let "the ball" mean several balls of one colour (panoramas).

    Returns:
        The edits, in the order of `instructions`.
    """
    if scene.look is not None:
        return ()
    return tuple(e for rule in _RULES if (e := rule.edit(scene, plural)) is not None)


def edit_for(scene: Scene, instruction: str | Sequence[str], plural: bool = False) -> Edit | None:
    """Return the edit that an instruction means for a scene.

    Args:
        scene: the scene.
        instruction: one of `instructions`, or several that are followed one after the other.
        plural: as in `edits_for`.

    Returns:
        The edit, or None where an instruction is ambiguous or changes nothing.

    Raises:
        ValueError: there is no such instruction.
    """
    if not isinstance(instruction, str):
        return _one_after_the_other(scene, instruction, plural)
    check_instruction(instruction)
    rule = next(r for r in _RULES if r.instruction == instruction)
    return None if scene.look is not None else rule.edit(scene, plural)


def _one_after_the_other(scene: Scene, instructions: Sequence[str], plural: bool) -> Edit | None:
    """The edit that several instructions make together, each of all that the one before gave."""
    answers: tuple[Scene, ...] = (scene,)
    edits: list[Edit] = []
    for instruction in instructions:
        found = [edit_for(each, instruction, plural) for each in answers]
        if not found or None in found:
            return None
        edits += [edit for edit in found if edit is not None]
        answers = tuple(dict.fromkeys(a for edit in found if edit for a in edit.answers))
    many = len(answers) > 1
    return Edit(IN_TURN.join(instructions), "many" if many else edits[-1].family, many, answers)


def check_instruction(instruction: str | Sequence[str] | None, family: str | None = None) -> None:
    """Raise if an instruction or a family does not exist, or they do not go together.

    Args:
        instruction: one of `instructions`, or several, or None for any.
        family: one of ``FAMILY_WEIGHTS``, or None for any.

    Raises:
        ValueError: with the nearest instructions that do exist.
    """
    if instruction is not None and not isinstance(instruction, str):
        for each in instruction:
            check_instruction(each, family)
        return
    allowed = instructions(family=family)
    if instruction is not None and instruction not in allowed:
        near = difflib.get_close_matches(instruction, allowed, n=3, cutoff=0.0)
        raise ValueError(
            f"instruction must be one of the {len(allowed)} that world.instructions("
            f"{'' if family is None else f'family={family!r}'}) lists, "
            f"such as {', '.join(map(repr, near))}, got {instruction!r}"
        )


def sample_edit(
    seed: int | np.random.Generator,
    scene: Scene,
    weights: Mapping[str, float] = FAMILY_WEIGHTS,
    plural: bool = False,
) -> Edit:
    """Draw an edit: first a family by its weight, then an instruction evenly.

    Args:
        seed: integer seed, or a generator that is advanced.
        scene: the scene, without a look.
        weights: weight of each family; families that the scene does not allow are left out.
        plural: as in `edits_for`.

    Returns:
        The edit.
    """
    rng = as_generator(seed)
    for family in weights:
        _check_family(family)
    offers: dict[str, list[Edit]] = {}
    for edit in edits_for(scene, plural):
        offers.setdefault(edit.family, []).append(edit)
    families = [f for f in offers if weights.get(f, 0) > 0]
    if not families:
        raise ValueError(
            f"weights must have a positive one for a family that applies to the scene, got "
            f"{dict(weights)}; applicable are {', '.join(offers) or 'none'}"
        )
    odds = np.array([weights[f] for f in families])
    family = families[int(rng.choice(len(families), p=odds / odds.sum()))]
    return offers[family][int(rng.integers(len(offers[family])))]


def _check_family(family: str | None) -> None:
    """Raise if a family does not exist."""
    if family is not None and family not in FAMILY_WEIGHTS:
        raise ValueError(f"family must be one of {', '.join(FAMILY_WEIGHTS)}, got {family!r}")
