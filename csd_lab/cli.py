"""`csd-lab`: the command line, from what a user typed to a run and its exit code.

Exit codes: 0 done, 1 failed, 2 wrong input (nothing was run), 128 + n stopped by signal n.
"""

import difflib
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

log = logging.getLogger(__name__)

WRONG_INPUT = (HydraException, OmegaConfBaseException, ValueError, TypeError, OSError)
"""What parts raise about their settings and input before anything runs."""

TYPED_AS_TEXT = ("prompt", "data.path", "prior.path", "resume", "hydra.run.dir")
"""Settings whose value is taken as it was typed, whatever characters it holds."""


def config_folder() -> Path:
    """The folder of configs: inside the package if installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def main() -> None:
    """Run the command line in ``sys.argv`` and exit with its code."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach us instead of Hydra's printout
    try:
        sys.argv[1:] = prepare(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="run")(job)()
    except WRONG_INPUT as error:
        sys.exit(fail(error))


def job(config: DictConfig) -> None:
    """Run one composed config in the folder that Hydra made for it."""
    from csd_lab.launch import launch  # heavy: not needed for --help or a mistyped override

    try:
        code = launch(config, Path(HydraConfig.get().runtime.output_dir))
    except WRONG_INPUT as error:  # here, since Hydra prints lines of its own about errors of a job
        log.exception("Nothing was run.")
        code = fail(error)
    if code:
        sys.exit(code)


def fail(error: BaseException) -> int:
    """Print an error as one line; return the exit code for wrong input."""
    print(f"csd-lab: {one_line(error)}", file=sys.stderr)
    return 2


def one_line(error: BaseException) -> str:
    """What is wrong and what to do about it, from an error of any layer, as one line."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    text = str(error) or type(error).__name__
    if match := re.search(r"Could not override '([^']+)'", text):
        return f"There is no setting {match[1]!r}{suggestion(match[1])}; see csd-lab --help."
    if match := re.match(r"Error parsing override '(.*)'\n", text, re.DOTALL):
        return (
            f"Cannot read {match[1]!r}; put a value with special characters in quotes, key='value'."
        )
    if match := re.search(
        r"Could not find '([^']+)'\s+Available options in '(\w+)':(.*?)(Config|$)", text, re.DOTALL
    ):
        choices = ", ".join(match[3].split())
        return f"There is no {match[2]} {match[1].split('/')[-1]!r}; there are {choices}."
    if match := re.search(r"Missing mandatory value: (\S+)", text):
        return f"{match[1]} must be given: {match[1]}=..."
    return " ".join(text.split())


def suggestion(key: str) -> str:
    """A hint at the config group or setting that ``key`` might have meant; "" if none is near."""
    groups = [path.name for path in config_folder().iterdir() if path.is_dir()]
    near = difflib.get_close_matches(key, [*groups, "prompt", "seed", "resume"], n=1)
    return f"; did you mean {near[0]!r}" if near else ""


def prepare(arguments: list[str]) -> list[str]:
    """What Hydra is given, from what the user typed.

    Free text is quoted, the user's own ``./configs`` join the search path, ``data.path`` implies
    ``data=file``, and ``resume`` runs in the folder that it names.

    Raises:
        ValueError: if the folder to resume is no run folder.
    """
    multirun = any(a in ("-m", "--multirun") for a in arguments)
    prepared = arguments if multirun else [quote(a) for a in arguments]
    keys = dict(overrides(arguments))
    if "data.path" in keys and "data" not in keys:
        prepared = ["data=file", *prepared]
    own = Path("configs").resolve()
    if own.is_dir() and own != config_folder() and "hydra.searchpath" not in keys:
        sys.path.append(str(own.parent))  # what own configs name may lie beside them
        prepared = [*prepared, f"hydra.searchpath=[{hydra_string(f'file://{own}')}]"]
    if "resume" in keys and keys["resume"] not in ("", "null"):
        prepared = [*prepared, *resume_overrides(Path(keys["resume"]))]
    return prepared


def resume_overrides(folder: Path) -> list[str]:
    """Overrides that make Hydra run in an existing run's folder, leaving what it holds.

    Raises:
        ValueError: if it is no run folder.
    """
    if not (folder / "config.yaml").is_file():
        raise ValueError(
            f"resume must be the folder of a run (one with a config.yaml), got {str(folder)!r}."
        )
    return [f"hydra.run.dir={hydra_string(str(folder.resolve()))}", "hydra.output_subdir=null"]


def overrides(arguments: list[str]) -> Iterator[tuple[str, str]]:
    """(key, value) of the ``key=value`` arguments."""
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and not key.startswith("-"):
            yield key.lstrip("+~"), value


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


if __name__ == "__main__":
    main()
