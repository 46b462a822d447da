"""Work in the background: the one place that knows threads and processes."""

from napari_cxr3d.jobs.process import ProcessJob, WorkerProcess
from napari_cxr3d.jobs.process_child import Call
from napari_cxr3d.jobs.process_link import processes_can_start
from napari_cxr3d.jobs.runner import Job, JobRunner, job_runner

__all__ = [
    "Call",
    "Job",
    "JobRunner",
    "ProcessJob",
    "WorkerProcess",
    "job_runner",
    "processes_can_start",
]
