"""Which settings differ between runs, and which of them say the same.

A resolved config repeats itself: ``data.seed`` is a copy of ``seed``, and ``method.distiller``
changes whenever ``method`` does. For a reader one key stands for each such family.
"""

from collections.abc import Sequence
from typing import NamedTuple

from csd_lab.compare.results import RunRecord, Value
from csd_lab.text import NaturalKey, natural

ABSENT = "–"
"""What stands for a setting that a run does not have."""

FREE = ("seed", "prompt")
"""Settings at the top that are no choices of parts."""

COPIES = ("modality.", "callbacks.")
"""Where settings of other parts are repeated, since these are made of them."""

Cells = tuple[int, ...]


class Key(NamedTuple):
    """A setting over all runs.

    Attributes:
        name: dotted.
        labels: its values as text, sorted: numbers by size, then text, then what is absent.
        cells: the label of each run, as an index.
        family: names of the settings that always change with it, and are left out for it.
    """

    name: str
    labels: tuple[str, ...]
    cells: Cells
    family: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether runs have different values."""
        return len(self.labels) > 1


def key_of(runs: Sequence[RunRecord], name: str) -> Key:
    """A setting over all runs, whether it differs or not."""
    return _key(name, [run.config.get(name, _ABSENT) for run in runs])


def differing_keys(runs: Sequence[RunRecord]) -> list[Key]:
    """The settings that differ between runs, one for each family, the shallow ones first.

    A setting of a part (``kernel.bandwidth.rule``) gives way to the part's choice (``kernel``) if
    the choices alone decide it. A copy (``data.seed``) gives way to what it copies.
    """
    names = dict.fromkeys(name for run in runs for name in run.config)
    keys = [key for name in names if (key := key_of(runs, name)).differs]
    keys.sort(key=lambda key: _rank(key.name))
    choices = [key for key in keys if "." not in key.name and key.name not in FREE]
    leader: dict[str, str] = {}
    for place, key in enumerate(keys):
        source = _decided(key, choices) or _copied(key, keys[:place])
        leader[key.name] = leader[source] if source else key.name
    return [
        key._replace(family=tuple(n for n, of in leader.items() if of == key.name != n))
        for key in keys
        if leader[key.name] == key.name
    ]


def _rank(name: str) -> tuple[bool, int, int, str]:
    """Originals before copies, shallow before deep."""
    return name.startswith(COPIES), name.count("."), len(name), name


def _decided(key: Key, choices: Sequence[Key]) -> str | None:
    """The choice whose part the key belongs to, if choices alone decide its value."""
    part = next((c.name for c in choices if key.name.startswith(f"{c.name}.")), None)
    if part is None:
        return None
    chosen = list(zip(*(choice.cells for choice in choices), strict=True))
    decided = dict(zip(chosen, key.cells, strict=True))
    return (
        part if all(decided[c] == cell for c, cell in zip(chosen, key.cells, strict=True)) else None
    )


def _copied(key: Key, before: Sequence[Key]) -> str | None:
    """The key that this one repeats wherever it is present: of the same last name, or a text."""
    last = key.name.rpartition(".")[2]
    for source in before:
        same_name = source.name.rpartition(".")[2] == last
        same_text = key.labels == source.labels and not any(map(_is_plain, key.labels))
        if (same_name or same_text) and _repeats(key, source):
            return source.name
    return None


def _is_plain(label: str) -> bool:
    """Whether a label is a number, true, false, null or absent: such may be equal by chance."""
    try:
        float(label)
    except ValueError:
        return label in ("true", "false", "null", ABSENT)
    return True


def _repeats(key: Key, source: Key) -> bool:
    pairs = zip(key.cells, source.cells, strict=True)
    return all(key.labels[a] in (ABSENT, source.labels[b]) for a, b in pairs)


class _Absent:
    """The value of a setting that a run does not have."""


_ABSENT = _Absent()


def _key(name: str, values: Sequence[Value | _Absent]) -> Key:
    labels = [label_of(value) for value in values]
    order = {label: _order(value) for label, value in zip(labels, values, strict=True)}
    distinct = sorted(order, key=lambda label: order[label])
    index = {label: place for place, label in enumerate(distinct)}
    return Key(name, tuple(distinct), tuple(index[label] for label in labels))


def label_of(value: Value | _Absent) -> str:
    """A value as text; equal numbers have equal texts."""
    if isinstance(value, _Absent):
        return ABSENT
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _order(value: Value | _Absent) -> tuple[int, float, NaturalKey]:
    if isinstance(value, _Absent):
        return 2, 0.0, natural("")
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value:
        return 0, float(value), natural("")
    return 1, 0.0, natural(label_of(value))
