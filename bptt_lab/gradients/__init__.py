"""Gradient strategies: one file each, and the slow oracle that proves them.

    from bptt_lab.gradients import Truncated

Names are imported when they are first used, so that reading the package imports no torch. A
strategy of your own needs no line here: name it by its module, or by a `_target_`.
"""

from typing import TYPE_CHECKING

from bptt_lab.core import lazy

if TYPE_CHECKING:
    from bptt_lab.gradients.adaptive import Adaptive as Adaptive
    from bptt_lab.gradients.artbp import ARTBP as ARTBP
    from bptt_lab.gradients.autograd import Autograd as Autograd
    from bptt_lab.gradients.base import Carry as Carry
    from bptt_lab.gradients.base import GradientStrategy as GradientStrategy
    from bptt_lab.gradients.base import Unrolled as Unrolled
    from bptt_lab.gradients.checkpointed import Checkpointed as Checkpointed
    from bptt_lab.gradients.credit_clip import CreditClip as CreditClip
    from bptt_lab.gradients.feedback_alignment import FeedbackAlignment as FeedbackAlignment
    from bptt_lab.gradients.forward_gradient import ForwardGradient as ForwardGradient
    from bptt_lab.gradients.full import Full as Full
    from bptt_lab.gradients.future import FutureFacing as FutureFacing
    from bptt_lab.gradients.future import OneSweep as OneSweep
    from bptt_lab.gradients.future import PerUnroll as PerUnroll
    from bptt_lab.gradients.kf_rtrl import KFRTRL as KFRTRL
    from bptt_lab.gradients.modifier import Modifier as Modifier
    from bptt_lab.gradients.online_bptt import OnlineBPTT as OnlineBPTT
    from bptt_lab.gradients.past import Chunk as Chunk
    from bptt_lab.gradients.past import PastFacing as PastFacing
    from bptt_lab.gradients.pes import PES as PES
    from bptt_lab.gradients.rflo import RFLO as RFLO
    from bptt_lab.gradients.rtrl import RTRL as RTRL
    from bptt_lab.gradients.sketched_rtrl import SketchedRTRL as SketchedRTRL
    from bptt_lab.gradients.snap1 import SnAp1 as SnAp1
    from bptt_lab.gradients.sparse_rtrl import SparseRTRL as SparseRTRL
    from bptt_lab.gradients.stack import Stack as Stack
    from bptt_lab.gradients.truncated import Truncated as Truncated
    from bptt_lab.gradients.uoro import UORO as UORO

__all__, __getattr__, __dir__ = lazy.exports(__name__, __file__)
