"""What every job needs, imported once: a fork server loads this module and its jobs inherit it.

Nothing is computed here. A thread pool of torch that has worked once does not survive a fork.
"""

import gc
import importlib
import pkgutil

from hydra.core.plugins import Plugins

import bptt_lab.training.launchers.worker
import bptt_lab.training.train  # noqa: F401
from bptt_lab import gradients, tasks
from bptt_lab.training import callbacks

# What jobs import once they run, dearest first.
for name in ("sklearn.datasets", "tensorboard.plugins.hparams.api_pb2", "bptt_lab.conf"):
    importlib.import_module(name)
for package in (callbacks, gradients, tasks):
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
Plugins.instance()
gc.collect()
gc.freeze()  # a collection in a job would copy every page that holds an object
