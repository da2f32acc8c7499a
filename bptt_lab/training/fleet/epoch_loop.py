"""The loops of one replica: what Lightning's own do, without what nobody here hears of.

Lightning spends some 1.3 ms on a step of a 2.6 GHz core: profilers, hooks that nobody has, results
that nobody logs. Progress, callbacks, checkpoints, validation and the end of an epoch are
Lightning's here too, so that a run can go on with either loop.
"""

import time
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

from bptt_lab.tasks.base import Batches, SequenceBatch
from bptt_lab.training.callbacks import stretch
from bptt_lab.training.callbacks.checkpoints import Checkpoints
from bptt_lab.training.fleet import kinds
from bptt_lab.training.fleet.lockstep import HERE, Replica
from bptt_lab.training.fleet.stretch import Step, Taken

AHEAD = 1 << 18  # numbers of a replica's input that are looked at ahead, and
MOST = 64  # steps


class ReplicaLoop(_TrainingEpochLoop):
    """The steps of an epoch, each of them together with those of other replicas."""

    def __init__(self, trainer: Trainer, replica: Replica) -> None:
        own = trainer.fit_loop.epoch_loop
        super().__init__(trainer, own.min_steps, own.max_steps)
        self.replica = replica
        self.val_loop = ReplicaEvaluation(trainer, replica, own.val_loop)

    def run(self, data_fetcher: Any) -> None:
        """Find out once an epoch whom to call at every step."""
        trainer = self.trainer
        self.module: Any = trainer.lightning_module
        self.saving = next(c for c in trainer.checkpoint_callbacks if isinstance(c, Checkpoints))
        self.hooks = {name: kinds.hooks(trainer, name) for name in stretch.HOOKS}
        self.kind = kinds.kind(self.replica, trainer, self.module)
        self.watched = kinds.is_watched(trainer, self.module)
        self.noting = stretch.noting(trainer.callbacks)
        super().run(data_fetcher)

    def on_run_start(self, data_fetcher: Any) -> None:
        """Find the loader's own iterator, beneath those that could join several."""
        super().on_run_start(data_fetcher)
        (self.batches,) = data_fetcher.combined_loader._iterator.iterators

    def advance(self, data_fetcher: Any) -> None:
        """Train on one batch, or on some at which nobody has anything to do in between."""
        self.passed = 0
        for _ in range(2 * self.watched):  # others' turn: their step asks twice
            self.replica.ask(Step(self.replica, self.module, self.trainer))
        # Lightning finds its way from wherever it was, and tells whoever wants to be told.
        self.by_itself = bool(self.restarting or self.replica.alone or self.watched)
        if self.by_itself:
            began = time.perf_counter()
            super().advance(data_fetcher)
            self.replica.took_alone(time.perf_counter() - began)
            return
        self.val_loop.restarting = False  # this epoch's validation is a new one
        taken, ahead = None, self._idle(data_fetcher)
        if ahead:
            taken = self._ask(self.batches.ahead(ahead), whole=True)
            if taken and taken.steps:
                self._pass(data_fetcher, taken)
                if not taken.ready:
                    return
        self._advance(data_fetcher, asked=ahead > 0, ready=taken is not None and taken.ready)

    def _idle(self, data_fetcher: Any) -> int:
        """How many of the next steps need nobody; the last one of an epoch does."""
        trainer = self.trainer
        if trainer.accumulate_grad_batches > 1:
            return 0
        if not isinstance(self.batches, Batches):  # a task's own loader
            return 0
        left = data_fetcher.length - data_fetcher.fetched - 1
        if self.max_steps > 0:
            left = min(left, self.max_steps - self.global_step - 1)
        every = trainer.val_check_batch
        if isinstance(every, int):
            left = min(left, every - self.batch_progress.current.ready % every - 1)
        idle = min(left, MOST, stretch.idle_steps(self.noting, trainer))
        return min(idle, _room(self.batches.ahead(1)[0])) if idle > 0 else 0

    def _ask(self, batches: Sequence[SequenceBatch], *, whole: bool) -> Taken | None:
        trainer, draw = self.trainer, self.total_batch_idx + whole  # counted already, if it is one
        batches = [trainer.precision_plugin.convert_input(batch) for batch in batches]
        known = kinds.kind_of(self.kind, batches[0]), self.module, trainer, batches
        finite = self.saving.finite
        taken: Taken | None = self.replica.ask(Step(*known, draw=draw, whole=whole, finite=finite))
        return taken

    def _pass(self, data_fetcher: Any, taken: Taken) -> None:
        """Count steps that were taken, and tell whoever takes note of them."""
        self.passed = taken.steps
        for _ in range(taken.steps):
            next(self.batches)
        data_fetcher.fetched += taken.steps
        optimizer = self.automatic_optimization.optim_progress.optimizer
        for count in (self.batch_progress, optimizer.step, optimizer.zero_grad):
            for progress in (count.total, count.current):
                for name in vars(progress):
                    setattr(progress, name, getattr(progress, name) + taken.steps)
        for callback in self.noting or ():
            callback.catch_up(self.trainer, self.module, taken.stretch)

    def _advance(self, data_fetcher: Any, *, asked: bool, ready: bool) -> None:
        """Train on one batch; others may have asked for its gradient, and it may be ready."""
        trainer, module, progress = self.trainer, self.module, self.batch_progress
        batch_idx = progress.current.ready
        batch = next(self.batches)
        data_fetcher.fetched += 1
        progress.is_last_batch = data_fetcher.done = data_fetcher.fetched >= data_fetcher.length
        batch = trainer.precision_plugin.convert_input(batch)
        progress.increment_ready()
        self._call("on_train_batch_start", batch, batch_idx)
        module.on_train_batch_start(batch, batch_idx)
        progress.increment_started()
        if not asked:
            taken = self._ask([batch], whole=False)
            ready = taken is not None and taken.ready
        self._optimize(batch, batch_idx, ready=ready)
        progress.increment_processed()
        if self.saving.is_due:
            self.replica.take_generators()
        outputs = {"loss": module.latest_sum / module.share if module.share else module.latest_sum}
        self._call("on_train_batch_end", outputs, batch, batch_idx)
        progress.increment_completed()
        self.passed += 1

    def _optimize(self, batch: SequenceBatch, batch_idx: int, *, ready: bool) -> None:
        trainer, module = self.trainer, self.module
        steps = self.automatic_optimization.optim_progress.optimizer
        optimizer, is_step = trainer.optimizers[0], not self._should_accumulate()
        if is_step:
            steps.step.increment_ready()
        if batch_idx % trainer.accumulate_grad_batches == 0:
            steps.zero_grad.increment_ready()
            steps.zero_grad.increment_started()
            steps.zero_grad.increment_completed()
        if not ready:
            if batch_idx % trainer.accumulate_grad_batches == 0:
                optimizer.zero_grad()
            with trainer.precision_plugin.train_step_context():
                loss = module.training_step(batch, batch_idx)
            module.backward(loss / trainer.accumulate_grad_batches)
        if not is_step:
            return
        module.rates.set(optimizer, trainer.global_step + 1)
        if module.counted > 0:
            self._call("on_before_optimizer_step", optimizer)
            if trainer.gradient_clip_val is not None:
                module.configure_gradient_clipping(
                    optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm
                )
            if not self.replica.ask(Step(self.kind, module, trainer)):
                optimizer.step()
                module.stepped()
        module.counted = 0.0
        steps.step.increment_completed()

    def on_advance_end(self, data_fetcher: Any) -> None:
        """Validate where it is time, as at the end of an epoch."""
        told = self.by_itself or self.batch_progress.is_last_batch or self.trainer.should_stop
        if told or self._should_check_val_fx(data_fetcher):
            self._batches_that_stepped += max(0, self.passed - 1)
            super().on_advance_end(data_fetcher)
            self.replica.take_generators()  # for a checkpoint at the epoch's end
        elif not self._should_accumulate():
            self._batches_that_stepped += self.passed

    def _call(self, hook: str, *args: Any) -> None:
        for own in self.hooks[hook]:
            own(self.trainer, self.module, *args)


class ReplicaEvaluation(_EvaluationLoop):
    """Validation or test, each batch together with those of other replicas."""

    def __init__(self, trainer: Trainer, replica: Replica, own: _EvaluationLoop) -> None:
        # Its tensors meet those of others in training: inference mode would be theirs too.
        kind, stage = own._trainer_fn, own._stage
        super().__init__(trainer, kind, stage, verbose=own.verbose, inference_mode=False)
        self.replica = replica

    def reset(self) -> None:
        """Find out once what network it is."""
        super().reset()
        self.watched = kinds.is_watched(self.trainer, self._module)
        # A task of others may draw, from generators that are this replica's in its turn only.
        own = getattr(self._module.score, "__module__", "").startswith("bptt_lab.")
        kind = kinds.kind(self.replica, self.trainer, self._module)
        self.kind = "evaluated", kind if own else self.replica

    def on_run_end(self) -> list[Any]:
        """Have its own generators, as a checkpoint may be taken."""
        self.replica.take_generators()
        return super().on_run_end()

    @property
    def _module(self) -> Any:
        return self.trainer.lightning_module

    def _evaluation_step(
        self, batch: Any, batch_idx: int, dataloader_idx: int, dataloader_iter: Any
    ) -> None:
        trainer, module, progress = self.trainer, self._module, self.batch_progress
        if self.watched:
            super()._evaluation_step(batch, batch_idx, dataloader_idx, dataloader_iter)
            return
        convert = trainer.precision_plugin.convert_input
        batches = [convert(each) for each in (batch, *self._ahead(batch))]
        known = kinds.kind_of(self.kind, batches[0]), module, trainer, batches
        taken: Taken | None = self.replica.ask(Step(*known, learns=False))
        done = taken.steps if taken else 0
        if not done:
            with trainer.precision_plugin.val_step_context():
                module.validation_step(batches[0], batch_idx)
            done = 1
        self._skip(done - 1)
        for count in (progress.total, progress.current):
            for name in vars(count):
                setattr(count, name, getattr(count, name) + done)
        self._has_run = True
        self._seen_batches_per_dataloader[dataloader_idx] += done

    def _ahead(self, batch: SequenceBatch) -> list[SequenceBatch]:
        """The batches after this one that are shaped as it is."""
        fetcher: Any = self._data_fetcher
        (self.batches,) = fetcher.combined_loader._iterator.iterators
        if not isinstance(self.batches, Batches):
            return []
        most = min(fetcher.length - fetcher.fetched, MOST - 1, _room(batch) - 1)
        ahead = self.batches.ahead(most)
        return [each for each in ahead if each.target.shape == batch.target.shape]

    def _skip(self, count: int) -> None:
        """Take batches that were looked at ahead."""
        fetcher: Any = self._data_fetcher
        for _ in range(count):
            next(self.batches)
        fetcher.fetched += count
        fetcher.combined_loader._iterator._idx += count
        fetcher.done = self.batch_progress.is_last_batch = fetcher.fetched >= fetcher.length


def _room(batch: SequenceBatch) -> int:
    """How many batches such as this one are looked at ahead."""
    return max(1, AHEAD // batch.input.numel())


def join(trainer: Trainer) -> None:
    """Have a trainer of a replica take its steps with the others; any other is left as it is."""
    replica = HERE.get()
    if replica is not None:
        trainer.fit_loop.epoch_loop = ReplicaLoop(trainer, replica)
        trainer.test_loop = ReplicaEvaluation(trainer, replica, trainer.test_loop)
