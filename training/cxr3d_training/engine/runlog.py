"""What a run tells of itself: ``log.jsonl``, TensorBoard, and the sums behind both."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr3d_training.engine.errors import DivergedError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["RunLog", "Tally", "open_board", "read_log", "require_all_finite"]


class Tally:
    """Means of named numbers since the last line of the log.

    The sums stay on the device: nothing waits for it until a line is written.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, value: Tensor, parts: int = 1) -> None:
        """Add one step's value, or one of its `parts`."""
        import torch

        value = value.detach().to(torch.float64 if value.device.type == "cpu" else torch.float32)
        old = self._sums.get(name)
        self._sums[name] = value / parts if old is None else old + value / parts

    def count(self, name: str) -> None:
        """Count a step of a number whose parts were added."""
        self._counts[name] = self._counts.get(name, 0) + 1

    def means(self, fabric: Any) -> dict[str, float]:
        """The means over steps and processes; the sums begin again."""
        import torch

        names = sorted(self._sums)
        if not names:
            return {}
        stacked = torch.stack([self._sums[n] / self._counts[n] for n in names])
        values = fabric.all_reduce(stacked, reduce_op="mean").tolist()
        self._sums, self._counts = {}, {}
        return dict(zip(names, values, strict=True))

    def state(self) -> dict[str, list[float]]:
        """The sums and counts, for a checkpoint."""
        return {n: [float(s), float(self._counts.get(n, 0))] for n, s in self._sums.items()}

    def restore(self, state: Mapping[str, list[float]], device: Any) -> None:
        """Take up the sums of a checkpoint."""
        import torch

        dtype = torch.float64 if torch.device(device).type == "cpu" else torch.float32
        self._sums = {n: torch.tensor(s, dtype=dtype, device=device) for n, (s, _) in state.items()}
        self._counts = {n: int(c) for n, (_, c) in state.items()}

    def require_finite(self, step: int) -> None:
        """Refuse sums that are no numbers.

        Raises
        ------
        DivergedError
            If a term became infinite or NaN since the last line.
        """
        require_all_finite({name: float(total) for name, total in self._sums.items()}, step)


def require_all_finite(numbers: Mapping[str, float], step: int) -> None:
    """Refuse numbers that are none, and name a single term rather than the sum.

    Raises
    ------
    DivergedError
        If one is infinite or NaN.
    """
    broken = [name for name, value in numbers.items() if not math.isfinite(value)]
    if broken:
        name = min(broken, key=lambda n: n.endswith(("/total", "/gradient_norm")))
        raise DivergedError(
            f"{name} is {numbers[name]} at step {step}",
            why="the training has diverged; the last checkpoint is from before",
            remedy="lower the learning rate or a loss weight, or train in 32-true",
        )


class RunLog:
    """The curve of a run, one JSON object a line, and the same in TensorBoard.

    A line holds nothing that differs between two runs of one seed: no times, no speeds. Those
    go to TensorBoard and to the provenance.

    Parameters
    ----------
    path : Path
        ``log.jsonl``.
    board : Logger or None
        A Fabric logger; None in all processes but the first.
    step : int
        Steps done before: lines of later steps, of a run that was killed, are dropped.
    """

    def __init__(self, path: Path, board: Any, step: int) -> None:
        self._path = path
        self._board = board
        kept = [line for line in read_log(path) if line["step"] <= step]
        text = "".join(_line(line) for line in kept)
        temporary = path.with_suffix(".part")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)

    def write(self, step: int, numbers: Mapping[str, float], **unlogged: float) -> None:
        """Add a line; `unlogged` numbers go to TensorBoard alone."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line({"step": step, **numbers}))
        if self._board is not None:
            self._board.log_metrics({**numbers, **unlogged}, step)

    def images(self, step: int, images: Mapping[str, Tensor]) -> None:
        """Add pictures, [rows, cols] or [3, rows, cols], 0 to 1."""
        if self._board is None:
            return
        for name, image in images.items():
            layout = "HW" if image.ndim == 2 else "CHW"
            pixels = image.detach().float().clamp(0, 1).cpu().numpy()
            self._board.experiment.add_image(name, pixels, step, dataformats=layout)

    def close(self, status: str) -> None:
        """Flush everything to disk."""
        if self._board is not None:
            self._board.finalize(status)


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record) + "\n"


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; a last line that was cut off is left out."""
    lines: list[dict[str, Any]] = []
    if not path.is_file():
        return lines
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(text)
        except ValueError:
            break
        if not isinstance(record, dict) or "step" not in record:
            break
        lines.append(record)
    return lines


def open_board(folder: Path, step: int) -> Any:
    """TensorBoard's logger; what a killed run logged after `step` is hidden."""
    from lightning_fabric.loggers import TensorBoardLogger

    purge = {"purge_step": step + 1} if step else {}
    return TensorBoardLogger(
        folder.parent,
        name="",
        version="",
        sub_dir=folder.name,
        default_hp_metric=False,
        **purge,
    )
