from __future__ import annotations

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from bptt_lab.training.callbacks.bundle import Bundle


class Spy(Callback):
    def __init__(self, name, seen):
        self.name, self.seen = name, seen

    def on_train_start(self, trainer, pl_module):
        self.seen.append((self.name, "start"))


class Ender(Spy):
    def on_train_end(self, trainer, pl_module):
        self.seen.append((self.name, "end"))


def test_hooks_reach_those_that_have_them_in_order():
    seen = []
    bundle = Bundle([Spy("a", seen), Ender("b", seen)])
    bundle.on_train_start(None, None)
    bundle.on_train_batch_end(None, None, None, None, 0)
    bundle.on_train_end(None, None)
    assert seen == [("a", "start"), ("b", "start"), ("b", "end")]


def test_every_forwarded_hook_is_one_of_lightnings():
    for hook in Bundle.HOOKS:
        assert callable(getattr(Callback, hook))
        assert getattr(Bundle([]), hook)() is None  # takes any arguments, and calls nobody


def test_a_callback_with_more_than_that_does_not_fit():
    assert Bundle.fits(Ender("a", []))
    assert not Bundle.fits(ModelCheckpoint())
