"""What a user types, and what Hydra is given for it: free text, media by their paths, own configs.

Arguments are options of Hydra's, and overrides ``key=value``, in any order. What cannot be meant is
refused in one line that says what can.
"""

import re
import shlex
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from filecmp import cmp
from functools import cache
from itertools import islice, takewhile
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from csd_lab.composition import config_folder
from csd_lab.data.base import expanded
from csd_lab.data.captures import is_capture
from csd_lab.messages import NULLABLE, groups
from csd_lab.text import listed

TYPED_AS_TEXT = ("prompt", "data.path", "prior.path", "resume", "hydra.run.dir")
"""Settings whose value is taken as it was typed, whatever characters it holds."""

IMAGES = ("png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp")
"""Endings of files that hold one image."""
CLIPS = ("mp4", "mov", "webm", "mkv", "avi", "gif")
"""Endings of files that hold a clip."""
PATHS = ("data.path", "data.target", "prior.path", "resume", "hydra.run.dir")
"""Settings that may begin with the user's home, ``~/``."""

QUOTES = "'\""

VALUED = {
    "-c", "--cfg", "-p", "--package", "-cp", "--config-path", "-cn", "--config-name",
    "-cd", "--config-dir", "--experimental-rerun",
}  # fmt: skip
"""Options of Hydra's that take a value."""
PLAIN = {
    "-h", "--help", "--hydra-help", "--resolve", "-r", "--run", "-m", "--multirun",
    "-sc", "--shell-completion", "-i", "--info",
}  # fmt: skip
"""Its other options."""
SHOWING = {"-h", "--help", "--hydra-help", "-c", "--cfg", "-i", "--info"}
"""Options with which nothing is run."""


def prepare(arguments: list[str]) -> list[str]:
    """What Hydra is given, from what the user typed: options first, then overrides in one block.

    Free text is quoted, the user's own ``./configs`` join the search path, ``data.path`` implies
    ``data=file``, ``data=image`` or ``data=capture``, as it looks, and ``resume`` runs in the
    folder that it names.

    Raises:
        ValueError: if an argument is neither an option nor an override, if a choice cannot be
            made, or if the folder to resume is no run folder.
    """
    options, typed = parted(arguments)
    typed = [at_home(argument) for argument in typed]
    check_words(typed)
    check_choices(typed)
    multirun = not {"-m", "--multirun"}.isdisjoint(options)
    if not SHOWING & {option.partition("=")[0] for option in options}:
        check_sweeping(typed, multirun)
    if multirun:
        tell_split(typed)
    prepared = [a if multirun and sweeps(a) else quote(a) for a in typed]
    keys = dict(overrides(typed))
    if "data.path" in keys and "data" not in keys:
        prepared = [f"data={kind_of_all(paths_in(keys['data.path'], multirun))}", *prepared]
    own = own_configs()
    if own is not None and "hydra.searchpath" not in keys:
        prepared = [*prepared, f"hydra.searchpath=[{hydra_string(f'file://{own}')}]"]
    if "resume" in keys and keys["resume"] not in ("", "null"):
        if multirun:
            raise ValueError(
                "resume goes on with a single run; a sweep goes on by its own command, given again."
            )
        prepared = [*prepared, *resume_overrides(Path(keys["resume"].strip(QUOTES)))]
    return [*options, *prepared]


def own_configs() -> Path | None:
    """The user's folder of configs where this process works; None if there is none."""
    own = Path("configs").resolve()
    return own if own.is_dir() and own != config_folder() else None


def find_own_parts() -> None:
    """Let Python find what the user's configs and overrides name, and say which are not used."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    if (own := own_configs()) is not None:
        tell_hidden(own)


@cache
def tell_hidden(own: Path) -> None:
    """Say once which of the user's configs are called as the package's: Hydra takes the latter."""
    theirs = config_folder()
    names = [path.relative_to(own) for path in sorted(own.rglob("*.yaml"))]
    there = [name for name in names if (theirs / name).is_file()]
    hidden = [str(name) for name in there if not cmp(own / name, theirs / name, shallow=False)]
    if hidden:
        print(
            f"csd-lab: {listed(hidden)} in ./configs: not used, since csd_lab has one "
            "of that name; rename it.",
            file=sys.stderr,
        )


def at_home(override: str) -> str:
    """An override whose path begins with the user's home, where shells leave ``~`` as it is."""
    key, equals, value = override.partition("=")
    bare = value.lstrip(QUOTES)
    if key not in PATHS or not bare.startswith("~/"):
        return override
    quotes = value[: len(value) - len(bare)]
    return f"{key}{equals}{quotes}{expanded(bare)}"


def parted(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Hydra's options, with their values, and the overrides, each in their order.

    Raises:
        ValueError: if Hydra has no such option.
    """
    options: list[str] = []
    typed: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name = argument.partition("=")[0]
        if not argument.startswith("-"):
            typed.append(argument)
        elif name in VALUED:
            options += [argument] if "=" in argument else [argument, *islice(rest, 1)]
        elif name in ("-i", "--info") and "=" not in argument:
            options.append("--info=all")  # else it would take the override that follows
        elif name in PLAIN:
            options.append(argument)
        else:
            raise ValueError(f"{name!r} is no option; {option_meant(name)}")
    return options, typed


def option_meant(name: str) -> str:
    """What to type in the place of an option that there is not."""
    if near := get_close_matches(name, [*VALUED, *PLAIN, "--version"], n=1, cutoff=0.75):
        return f"did you mean {near[0]}?"
    key = name.lstrip("-")
    return f"leave out the {name[: len(name) - len(key)]}: {key}=..."


def check_words(typed: list[str]) -> None:
    """Look that all overrides are ``key=value``.

    Raises:
        ValueError: names the first that is not, and what was meant.
    """
    for index, word in enumerate(typed):
        if "=" not in word and not word.startswith("~"):
            words = list(takewhile(lambda each: "=" not in each, typed[index:]))
            meant = meant_by(typed[index - 1] if index else "", words)
            raise ValueError(f"{word!r} is no key=value; did you mean {meant}?")


def meant_by(before: str, words: list[str]) -> str:
    """What words without ``=`` may have been meant as.

    Args:
        before: the override before them; "" if there is none.
        words: as typed.
    """
    key, _, value = before.partition("=")
    if key in TYPED_AS_TEXT or value.count("[") > value.count("]"):
        return f'{key}="{" ".join([value, *words])}"'
    if len(words) > 1 and ("." in words[0] or words[0] in TYPED_AS_TEXT) and not is_media(words[0]):
        return f'{words[0]}="{" ".join(words[1:])}"'
    if media := [word for word in words if is_media(word)]:
        return f"data.path={shlex.quote(media[0])}"
    return f'prompt="{" ".join(words)}"'


def is_media(word: str) -> bool:
    """Whether a word may be a file or folder to edit."""
    return Path(word).exists() or word.rpartition(".")[2].lower() in (*IMAGES, *CLIPS)


def check_choices(typed: list[str]) -> None:
    """Look that no part is left out that a run must have.

    Raises:
        ValueError: names it, and what there is to choose.
    """
    for override in typed:
        key, _, value = override.lstrip("+~").partition("=")
        left_out = override.startswith("~") or value in ("null", "")
        if left_out and key in groups() and key not in NULLABLE:
            choices = ", ".join(groups()[key])
            raise ValueError(f"{key} must be one of {choices}; a run cannot be without.")


def check_sweeping(typed: list[str], multirun: bool) -> None:
    """Look that what belongs to a sweep comes with one, and is one for all of its jobs.

    Raises:
        ValueError: names the setting.
    """
    for key, value in overrides(typed):
        if key.partition(".")[0] not in ("sweep", "hparams_search") or value == "null":
            continue
        if not multirun:
            raise ValueError(f"{key} belongs to a sweep, which needs -m: csd-lab -m {key}={value}")
        if sweeps(f"{key}={value}"):
            raise ValueError(
                f"{key} must be one for all jobs of a sweep, got {value!r}; give the command once "
                "for each."
            )


def tell_split(typed: list[str]) -> None:
    """Say how many jobs a prompt without quotes makes, where its comma may be one of the text."""
    for key, text in overrides(typed):
        written_for_hydra = set(text) & set(QUOTES + "([")
        if key == "prompt" and ", " in text and not written_for_hydra and sweeps(f"prompt={text}"):
            print(
                f"csd-lab: prompt has commas, which part the texts of {len(sweep_of(text))} jobs; "
                f"if it is one text, put quotes inside: prompt=\"'{text}'\"",
                file=sys.stderr,
            )


def paths_in(value: str, multirun: bool) -> list[str]:
    """The paths that a value of ``data.path`` names: several in a sweep over them."""
    argument = f"data.path={value}"
    if not (multirun and sweeps(argument)):
        return [value.strip(QUOTES)]
    return [each.strip(QUOTES) for each in sweep_of(value)]


def kind_of_all(paths: list[str]) -> str:
    """The config of data for all of these.

    Raises:
        ValueError: if they are of several kinds.
    """
    kinds = sorted({kind_of(path) for path in paths})
    if len(kinds) > 1:
        raise ValueError(
            f"data.path must name media of one kind in a sweep, got {' and '.join(kinds)}: make a "
            "sweep of each, with one sweep.name."
        )
    return kinds[0]


def kind_of(path: str) -> str:
    """The config of data for what a user names: a capture, one image, or a clip."""
    if is_capture(Path(path)):
        return "capture"
    return "image" if path.rpartition(".")[2].lower() in IMAGES else "file"


def resume_overrides(folder: Path) -> list[str]:
    """Overrides that make Hydra run in an existing run's folder, leaving what it holds.

    Args:
        folder: the run's, or its checkpoint.

    Raises:
        ValueError: if it is no run folder.
    """
    if folder.is_file() and folder.parent.name == "checkpoints":
        folder = folder.parent.parent
    if not (folder / "config.yaml").is_file():
        raise ValueError(
            f"resume must be the folder of a run (one with a config.yaml), got {str(folder)!r}."
        )
    return [f"hydra.run.dir={hydra_string(str(folder.resolve()))}", "hydra.output_subdir=null"]


def overrides(arguments: list[str]) -> Iterator[tuple[str, str]]:
    """(key, value) of the ``key=value`` arguments, which are no options."""
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals:
            yield key.lstrip("+~"), value


def sweep_of(value: str) -> list[str]:
    """The values, as they are written, of a setting that :func:`sweeps`."""
    return list(OverridesParser.create().parse_override(f"_={value}").sweep_string_iterator())


def sweeps(argument: str) -> bool:
    """Whether an argument of a multirun may stand for several values, or cannot be read as one."""
    try:
        return bool(OverridesParser.create().parse_override(argument).is_sweep_override())
    except HydraException:
        return "," in argument  # which Hydra will tell; without a comma it is one text


def quote(argument: str) -> str:
    """Quote the value of a setting that is typed as text, unless it is quoted, a list or null."""
    key, equals, value = argument.partition("=")
    if not equals or key not in TYPED_AS_TEXT or value in ("", "null"):
        return argument
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    listed = value.startswith("[") and value.endswith("]")
    interpolated = key == "hydra.run.dir" and "${" in value
    if quoted or listed or interpolated:
        return argument
    return f"{key}={hydra_string(value)}"


def hydra_string(text: str) -> str:
    r"""Text as a quoted string of Hydra's grammar that stands for exactly this text.

    Quotes, backslashes before quotes, and ``${`` (which would be an interpolation) are escaped.
    """
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    text = re.sub(r"(\\*)'", r"\1\1\\'", text)
    text = re.sub(r"(\\+)$", r"\1\1", text)
    return f"'{text}'"
