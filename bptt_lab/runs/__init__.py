"""Runs: what lies on the disk, and how a run ended. Nothing here imports torch."""

from bptt_lab.runs.folder import MANIFEST as MANIFEST
from bptt_lab.runs.folder import METRICS as METRICS
from bptt_lab.runs.folder import STATUS as STATUS
from bptt_lab.runs.folder import SUMMARY as SUMMARY
from bptt_lab.runs.folder import SWEEP as SWEEP
from bptt_lab.runs.folder import Run as Run
from bptt_lab.runs.folder import Status as Status
from bptt_lab.runs.folder import clear as clear
from bptt_lab.runs.folder import read_json as read_json
from bptt_lab.runs.folder import read_metrics as read_metrics
from bptt_lab.runs.folder import read_run as read_run
from bptt_lab.runs.folder import read_sweep as read_sweep
from bptt_lab.runs.folder import write_json as write_json
from bptt_lab.runs.folder import write_status as write_status
