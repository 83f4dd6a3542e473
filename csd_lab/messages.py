"""What is wrong with what a user gave, in one line."""

import difflib
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from hydra.errors import HydraException, InstantiationException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from csd_lab.composition import composed, config_folder
from csd_lab.text import on_one_line, said_by

WRONG_INPUT = (
    *(HydraException, OmegaConfBaseException, yaml.YAMLError),
    *(ValueError, TypeError, OSError),
)
"""What parts raise about their settings and input before anything runs."""

WRONG = 2
"""The exit code for it."""

FAILED = 1
"""The exit code for a fault of a part."""


EXTRAS = {
    "optuna": "search",
    "hydra_plugins.csd_lab_sweep.clusters": "launchers",
    "hydra_plugins.hydra_joblib_launcher": "launchers",
    "hydra_plugins.hydra_ray_launcher": "ray",
}
"""The extra that brings a module."""


HOMES = {
    "distiller": "method.distiller",
    "timesteps": "method.timesteps",
    "weight": "method.weight",
    "kernel": "kernel",
    "distance": "distance",
    "guidance": "guidance",
    "scheduler": "sampler",
    "scene": "field",
}
"""Where the parts of a modality or of data are set, by the names that they have there."""

NULLABLE = ("distance", "experiment", "sweep", "hparams_search")
"""Config groups that may choose nothing."""

TOP = ("prompt", "seed", "regions")
"""Settings of no group, which parts are handed under their own names."""


def is_fault(error: BaseException) -> bool:
    """Whether what a part raised is no word about its settings or its input, but a fault in it."""
    root = error
    while isinstance(root, InstantiationException) and root.__cause__ is not None:
        root = root.__cause__
    if isinstance(root, TypeError):  # but for settings that it does not take
        return re.search(r"\) (got|missing|takes) .*argument", str(root)) is None
    return not isinstance(root, (*WRONG_INPUT, ImportError))


def one_line(error: BaseException, typed: Sequence[str] = ()) -> str:
    """What is wrong and what to do about it, from an error of any layer, as one line.

    Args:
        error: of any layer.
        typed: the overrides of the command, whose choices say which settings there are.
    """
    where, fault = "", is_fault(error)
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        if match := re.search(r"full_key: (\S+)\s*$", str(error)):
            where = setting(match[1])
        error = error.__cause__
    if fault:
        return f"{where or 'A part'} failed: {type(error).__name__}: {on_one_line(error)}"
    if isinstance(error, OSError) and error.strerror:
        return said_by(error)
    text = str(error) or type(error).__name__
    return (
        of_grammar(text)
        or of_choices(text)
        or of_settings(text, typed)
        or placed(on_one_line(text), where)
    )


def of_grammar(text: str) -> str:
    """What is wrong with how an override is written; "" if the error is another one."""
    if match := re.search(
        r"Ambiguous value for argument '(.*)'\s+1\.", text, re.DOTALL
    ) or re.search(r"Sweep parameters '(.*?)' requires --multirun", text, re.DOTALL):
        key = match[1].partition("=")[0]
        command = f"csd-lab -m {shlex.quote(match[1])}"
        return f"{key} is given several values, which need -m: {command}"
    if match := re.match(r"Error parsing override '(.*?)'\n", text, re.DOTALL):
        return unreadable(match[1])
    if match := re.match(r"no viable alternative at input '(.*)'\s+See", text, re.DOTALL):
        return unreadable(match[1])
    return ""


def unreadable(written: str) -> str:
    """What keeps Hydra from reading an override, or what it has read of it."""
    opened = sum(map(written.count, "[{")) - sum(map(written.count, "]}"))
    if opened > 0:
        return f"Cannot read {written!r}; a bracket is not closed."
    return f"Cannot read {written!r}; put a value with special characters in quotes, key='value'."


def of_choices(text: str) -> str:
    """What is wrong with a choice of a part; "" if the error is another one."""
    if match := re.search(
        r"Could not find '([^']+)'\s+Available options in '([\w/]+)':(.*?)(Config|$)",
        text,
        re.DOTALL,
    ):
        choices = ", ".join(match[3].split())
        return f"There is no {match[2]}={match[1].split('/')[-1]}; choose from {choices}."
    if match := re.search(r"(?:Unknown plugin class :|Error loading) '([^']+)'", text):
        for module, extra in EXTRAS.items():
            if match[1].startswith(f"{module}."):
                return f"{match[1]} is not installed: pip install 'csd-lab[{extra}]'."
    return ""


def of_settings(text: str, typed: Sequence[str]) -> str:
    """What is wrong with the name of a setting; "" if the error is another one."""
    if match := re.search(r"Could not override '([^']+)'", text):
        return f"There is no setting {match[1]!r}{suggestion(match[1], typed)}; see csd-lab --help."
    if match := re.search(r"Missing mandatory value: (\S+)", text):
        return missing(match[1])
    return ""


def missing(key: str) -> str:
    """What to do about a setting that must be given."""
    return f"{key} must be given: {key}=..."


def placed(text: str, where: str) -> str:
    """A message of a part, with the full name of the setting that it is about.

    Args:
        text: the message.
        where: the part's own name; "" if the error is of no part.
    """
    if match := re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", text):
        key = f"{where}.{match[2]}" if where else match[2]
        return (
            f"{key} is no setting of {match[1]}; leave it out, or the experiment that brings it "
            f"with another choice of {where.partition('.')[0] or 'parts'}."
        )
    if match := re.search(r"(\w+)\(\) takes no arguments", text):
        return f"{where or match[1]} must have no settings beside its _target_, {match[1]}."
    name = text.partition(" must ")[0]
    if not where or name in TOP or name == where.rpartition(".")[2]:
        return text
    return f"{where}.{text}" if re.fullmatch(r"\w+", name) else text


def setting(full_key: str) -> str:
    """The name under which a part is set, from the place at which it was made."""
    parts = full_key.split(".")
    if parts[0] in ("modality", "data"):
        for index in range(len(parts) - 1, 0, -1):
            if parts[index] in HOMES:
                return ".".join([HOMES[parts[index]], *parts[index + 1 :]])
    return full_key


def groups() -> dict[str, list[str]]:
    """The config groups of this package, and what there is to choose in each."""
    folders = (path for path in config_folder().iterdir() if path.is_dir())
    found = {path.name: sorted(file.stem for file in path.glob("*.yaml")) for path in folders}
    return {name: choices for name, choices in found.items() if choices}


def suggestion(key: str, typed: Sequence[str] = ()) -> str:
    """A hint at the config group or setting that ``key`` might have meant; "" if none is near.

    Args:
        key: as it was typed.
        typed: the overrides of the command.
    """
    known = [*groups(), *known_settings(typed)]
    if key in known:  # of the package's own parts, and the one that was chosen is another
        return f" in the {key.partition('.')[0]} that was chosen, whose config lists what there is"
    last = key.rpartition(".")[2]
    by_last: dict[str, list[str]] = {}
    for name in known:
        by_last.setdefault(name.rpartition(".")[2], []).append(name)
    near = difflib.get_close_matches(key, by_last.get(last, []), n=1, cutoff=0)
    near = near or difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    if not near and (similar := difflib.get_close_matches(last, by_last, n=1)):
        near = by_last[similar[0]]
    return f"; did you mean {near[0]!r}" if near else ""


def known_settings(typed: Sequence[str]) -> list[str]:
    """The dotted names of all settings of a command, from its choices of parts."""
    chosen = [item for item in typed if item.partition("=")[0] in groups()]
    try:
        config = composed(*chosen)
    except HydraException:  # own configs, or several choices
        config = composed()
    known = names(OmegaConf.to_container(config, resolve=False))
    return [name for name in known if name.partition(".")[0] != "choices"]  # which none can set


def names(node: Any, above: str = "") -> Iterator[str]:
    """The dotted names of all that lies in a mapping; names that begin with _ are none to set."""
    for key, value in node.items() if isinstance(node, dict) else ():
        if not str(key).startswith("_"):
            yield f"{above}{key}"
            yield from names(value, f"{above}{key}.")
