"""Data for training: cohorts of CTs and phantoms, datasets on disk, and the feed of a loop.

Importing this package loads numpy only.
"""

from cxr3d_training.data.cohort import CaseList, Cohort, CohortCase, mix
from cxr3d_training.data.feed import Batch, Feed, FeedError
from cxr3d_training.data.opening import cohort_of, open_cohort

__all__ = [
    "Batch",
    "CaseList",
    "Cohort",
    "CohortCase",
    "Feed",
    "FeedError",
    "cohort_of",
    "mix",
    "open_cohort",
]
