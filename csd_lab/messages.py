"""What is wrong with what a user gave, in one line."""

import difflib
import re

from hydra.errors import HydraException, InstantiationException
from omegaconf.errors import OmegaConfBaseException

from csd_lab.composition import config_folder

WRONG_INPUT = (HydraException, OmegaConfBaseException, ValueError, TypeError, OSError)
"""What parts raise about their settings and input before anything runs."""

WRONG = 2
"""The exit code for it."""


EXTRAS = {
    "optuna": "search",
    "hydra_plugins.csd_lab_sweep.clusters": "launchers",
    "hydra_plugins.hydra_joblib_launcher": "launchers",
    "hydra_plugins.hydra_ray_launcher": "ray",
}
"""The extra that brings a module."""


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
    if match := re.search(r"(?:Unknown plugin class :|Error loading) '([^']+)'", text):
        for module, extra in EXTRAS.items():
            if match[1].startswith(f"{module}."):
                return f"{match[1]} is not installed: pip install 'csd-lab[{extra}]'."
    if match := re.search(r"Missing mandatory value: (\S+)", text):
        return f"{match[1]} must be given: {match[1]}=..."
    return " ".join(text.split())


def suggestion(key: str) -> str:
    """A hint at the config group or setting that ``key`` might have meant; "" if none is near."""
    groups = [path.name for path in config_folder().iterdir() if path.is_dir()]
    near = difflib.get_close_matches(key, [*groups, "prompt", "seed", "resume"], n=1)
    return f"; did you mean {near[0]!r}" if near else ""
