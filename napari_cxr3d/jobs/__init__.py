"""Work in the background: the one place that knows threads."""

from napari_cxr3d.jobs.runner import Job, JobRunner, job_runner

__all__ = ["Job", "JobRunner", "job_runner"]
