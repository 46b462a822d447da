"""Whether a dataset is still what its manifest says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cxr3d_training.data.manifest import MANIFEST
from cxr3d_training.data.split import check_disjoint, check_side
from cxr3d_training.data.store import case_ids, content_sha256, read_case, read_json
from napari_cxr3d.errors import Cxr3dError
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback

__all__ = ["Report", "verify"]


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes
    ----------
    cases : int
        Cases that the manifest lists.
    unlisted : int
        Complete cases on disk that it does not.
    faults : tuple of str
        One sentence each.
    """

    cases: int
    unlisted: int
    faults: tuple[str, ...]


def verify(
    dataset: str | Path,
    *,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Report:
    """Read and hash every case of a dataset.

    Raises
    ------
    UnreadableFileError
        If there is no manifest, or it is damaged.
    Cancelled
        If the user cancelled.
    """
    folder = Path(dataset).expanduser()
    cases = read_json(folder / MANIFEST).get("cases", [])
    faults = []
    for number, case in enumerate(cases):
        if cancel is not None:
            cancel.raise_if_cancelled()
        if progress is not None:
            progress(Progress(number, len(cases), f"hashing case {number + 1} of {len(cases)}"))
        try:
            if content_sha256(read_case(folder, case["id"])) != case["sha256"]:
                faults.append(f"{case['id']}: the content is not the one that was prepared.")
        except Cxr3dError as error:
            faults.append(f"{case['id']}: {error}")
    try:
        check_disjoint([(case["patient"], check_side(case["split"])) for case in cases])
    except Cxr3dError as error:
        faults.append(str(error))
    unlisted = set(case_ids(folder)) - {case["id"] for case in cases}
    return Report(len(cases), len(unlisted), tuple(faults))
