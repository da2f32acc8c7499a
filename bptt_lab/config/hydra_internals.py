"""Hydra's private side: the one file that touches it. Hydra is pinned below 1.4.

The public `hydra.compose` takes no --config-dir, composes no sweep and names no options; what does
so inside Hydra is private. Whoever moves to another Hydra mends this file.
"""

from hydra._internal.callbacks import Callbacks as Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl as ConfigLoaderImpl
from hydra._internal.config_loader_impl import get_overrides_dirname as get_overrides_dirname
from hydra._internal.config_repository import ConfigRepository as ConfigRepository
from hydra._internal.config_repository import IConfigRepository as IConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl as ConfigSearchPathImpl
from hydra._internal.hydra import Hydra as Hydra
from hydra._internal.sources_registry import SourcesRegistry as SourcesRegistry
from hydra._internal.utils import (
    create_automatic_config_search_path as create_automatic_config_search_path,
)
from hydra._internal.utils import get_args_parser as get_args_parser
from hydra.core.plugins import Plugins

# Finding its plug-ins, Hydra executes their modules once more; a class derived from the first copy
# of one of them would have lost its base.
Plugins.instance()
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper as BasicSweeper  # noqa: E402
from hydra._internal.core_plugins.file_config_source import (  # noqa: E402
    FileConfigSource as FileConfigSource,
)
