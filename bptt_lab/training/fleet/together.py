"""What replicas wait for, computed for all of them at once where their networks are of one kind."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from bptt_lab.runs import outcome
from bptt_lab.tasks.base import SequenceBatch
from bptt_lab.training.fleet import stretch
from bptt_lab.training.fleet.fused import Fused, fits
from bptt_lab.training.fleet.lockstep import Replica
from bptt_lab.training.fleet.stack import Stack


class Together:
    """Computes gradients and optimizer steps of whole stacks; what fits none is left undone."""

    def __init__(self) -> None:
        self.places: dict[Replica, tuple[Stack, int]] = {}
        self.members: dict[int, tuple[Replica, ...]] = {}  # of each stack, by its id
        self.fused: dict[tuple[Any, ...], Fused | None] = {}
        self.steps = 0  # gradients that were found
        self.alone = 0  # of others, which replicas find by themselves before they ask again
        self.began = self.latest = 0.0  # when the first ones were, and the latest

    def __call__(self, waiting: Sequence[Replica], goes_on: Callable[[], bool]) -> None:
        """Do what each of them has asked for, or leave its `answer` None: it does it itself."""
        now = time.perf_counter()
        self.began, self.latest = self.began or now, now if self.alone else self.latest
        self.steps, self.alone = self.steps + self.alone, 0
        gradients: dict[Any, list[Replica]] = {}
        steps: dict[int, list[Replica]] = {}
        for replica in waiting:
            wants = replica.wants
            if wants.batches:
                gradients.setdefault(wants.kind, []).append(replica)
            elif replica in self.places and wants.kind is not replica:
                steps.setdefault(id(self.places[replica][0]), []).append(replica)
        for group in steps.values():
            known, rows = self.places[group[0]][0], [self.places[replica][1] for replica in group]
            if known.steps(rows):
                known.step(rows, [replica.wants.trainer.global_step + 1 for replica in group])
                for replica in group:
                    replica.answer = True
        for group in gradients.values():
            wants, stack = [replica.wants for replica in group], self._stack(tuple(group))
            batch = wants[0].batches[0]
            key = id(stack), *(tensor.shape for tensor in batch[:3])
            fused = stack and self._fused(key, stack, batch)
            taken: Sequence[Any] = [None] * len(group)
            if stack and fused:
                if wants[0].learns:
                    taken, error = stretch.train(stack, fused, wants, goes_on)
                else:
                    taken, error = stretch.evaluate(fused, wants, goes_on)
                if error is not None:  # each goes on by itself, so that it is that one's alone
                    self.fused[key] = None
                    problem = f"{type(error).__name__}: {error}"
                    outcome.tell(
                        f"fleet: {len(group)} jobs compute one by one from here on ({problem})"
                    )
            for replica, own in zip(group, taken, strict=True):
                replica.answer = own
                if own is None:
                    self.alone += replica.wants.learns
                elif replica.wants.learns:
                    self.steps += own.steps + own.ready
                    self.latest = time.perf_counter()

    def _stack(self, group: tuple[Replica, ...]) -> Stack | None:
        """The stack that a group makes up, a new one where others of the old one have ended."""
        if len(group) < 2:
            return None
        for known in {self.places[replica][0] for replica in group if replica in self.places}:
            members = self.members[id(known)]
            if members == group:
                return known
            if any(not replica.ended for replica in {*members} - {*group}):
                return None  # others of it are at another batch
        wants = [replica.wants for replica in group]
        optimizers = [optimizer for w in wants for optimizer in w.trainer.optimizers]
        stack = Stack([w.module for w in wants], optimizers)
        self.members[id(stack)] = group
        self.places |= {replica: (stack, row) for row, replica in enumerate(group)}
        self.fused = {key: fused for key, fused in self.fused.items() if key[0] in self._in_use()}
        return stack

    def _in_use(self) -> set[int]:
        return {id(stack) for stack, _ in self.places.values()}

    def _fused(self, key: tuple[Any, ...], stack: Stack, batch: SequenceBatch) -> Fused | None:
        if key not in self.fused:
            all_fit = all(fits(module, len(batch.input)) for module in stack.modules)
            self.fused[key] = Fused(stack, batch) if all_fit else None
        return self.fused[key]
