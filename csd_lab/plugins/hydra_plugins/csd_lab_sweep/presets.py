"""Lets our presets of launchers and sweepers stand under the names that their plugins have."""

from pathlib import Path
from typing import final

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.plugins.search_path_plugin import SearchPathPlugin

from csd_lab.composition import config_folder


@final
class PresetNames(SearchPathPlugin):
    """Puts away what plugins registered under a name for which csd_lab has a file.

    Hydra would take the plugin's settings for a schema of the file, and refuse what goes beyond.
    Only for our own commands: the plugins of an environment see every program of it.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra once all plugins are known."""
        ours = config_folder()
        if not any(is_folder(item.path, ours) for item in search_path.get_path()):
            return
        registered = ConfigStore.instance().repo.get("hydra", {})
        for path in ours.glob("hydra/*/*.yaml"):
            registered.get(path.parent.name, {}).pop(path.name, None)


def is_folder(path: str | None, folder: Path) -> bool:
    """Whether an item of a search path is this folder."""
    return path is not None and Path(path.removeprefix("file://")) == folder
