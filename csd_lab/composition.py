"""Where configs are, and what a composed one says about the job that it is: its hash.

Importing this module makes ``${job_hash:}`` known to configs, so that every launcher of Hydra puts
a job into the folder that is its own.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.utils import setup_globals
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from csd_lab.sweep.identity import NOT_IDENTITY, job_hash


def config_folder() -> Path:
    """The folder of configs: inside the package if installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def composed(*overrides: str) -> DictConfig:
    """The config of these overrides, such as ``method=dds``.

    Args:
        *overrides: in Hydra's grammar.

    Returns:
        The config, and its ``choices`` of parts by group.

    Raises:
        HydraException: if there is no such part or setting.
    """
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("run", overrides=list(overrides), return_hydra_config=True)
    chosen = config.hydra.runtime.choices.items()
    choices = {group: choice for group, choice in chosen if not str(group).startswith("hydra")}
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    OmegaConf.update(own, "choices", choices, force_add=True)
    return own


def config_hash(config: DictConfig) -> str:
    """The hash of a composed config.

    What follows from where and when a job runs (``${hydra:...}``, ``${now:...}``) counts as it is
    written, since it is not known yet when a sweep is planned, and is another each time.

    Args:
        config: the whole of it, or without its ``hydra`` node.

    Raises:
        ValueError: if a value is of a type that no setting has.
    """
    kept = [str(key) for key in config if key not in NOT_IDENTITY]
    own = OmegaConf.masked_copy(config, kept)
    for name in ("hydra", "now"):
        OmegaConf.register_new_resolver(name, _as_written(name), replace=True)
    try:
        return job_hash(_resolved(own))
    except TypeError as error:
        raise ValueError(str(error)) from error
    finally:
        setup_globals()  # Hydra's own resolvers again


def _as_written(name: str) -> Callable[..., str]:
    return lambda *arguments: f"${{{name}:{','.join(arguments)}}}"


def _resolved(node: Any) -> Any:
    """A config's values as plain types; an interpolation that leads nowhere yet stays text."""
    if not OmegaConf.is_config(node):
        return node
    written = OmegaConf.to_container(node, resolve=False, enum_to_str=True)
    if isinstance(written, dict):
        return {key: _resolved(_value(node, key, written[key])) for key in written}
    if isinstance(written, list):
        return [_resolved(_value(node, i, written[i])) for i in range(len(written))]
    return written


def _value(node: Any, key: Any, written: Any) -> Any:
    try:
        return node[key]
    except OmegaConfBaseException:
        return written


def _job_hash(*, _root_: DictConfig) -> str:
    return config_hash(_root_)


OmegaConf.register_new_resolver("job_hash", cast(Callable[..., str], _job_hash), replace=True)
