"""``cxr3d phantom``: a synthetic patient, with everything that is known about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from napari_cxr3d.terminal import console
from napari_cxr3d.terminal.command import usage_errors

if TYPE_CHECKING:
    from napari_cxr3d.phantom import PhantomCase

__all__ = ["phantom"]

Format = Literal["nii.gz", "nrrd", "mha"]
Sex = Literal["female", "male"]
Habitus = Literal["slim", "average", "heavy"]
Phase = Literal["none", "venous", "ctpa"]
Arms = Literal["up", "down"]

_RECORD = "case.json"
_REPORT = "report.txt"
_PICTURE = "pa.png"


def phantom(
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            show_default=False,
            help="Folder of the patient; made if it is missing. Needed unless --list-findings.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="One seed, one patient.")] = 0,
    finding: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=SEVERITY][:WHERE]",
            show_default="a healthy patient",
            help="What the patient has; may be given several times. Severity 0 to 1, where: a "
            "side, lobe or level. 'random' draws what a cohort has.",
        ),
    ] = None,
    list_findings: Annotated[
        bool, typer.Option("--list-findings", help="List the findings, and what severity means.")
    ] = False,
    sex: Annotated[Sex | None, typer.Option(show_default="drawn from the seed")] = None,
    age: Annotated[
        int | None, typer.Option(metavar="YEARS", min=18, max=100, show_default="drawn")
    ] = None,
    habitus: Annotated[Habitus | None, typer.Option(show_default="drawn")] = None,
    phase: Annotated[
        Phase | None, typer.Option(show_default="drawn", help="Contrast phase of the CT.")
    ] = None,
    arms: Annotated[Arms | None, typer.Option(show_default="drawn")] = None,
    table: Annotated[
        bool | None,
        typer.Option("--table/--no-table", show_default="with", help="The CT table."),
    ] = None,
    spacing_mm: Annotated[float, typer.Option(metavar="MM", help="Voxel spacing.")] = 2.0,
    size_mm: Annotated[
        str,
        typer.Option(metavar="I,P,L", help="Field of view along inferior, posterior, left in mm."),
    ] = "340,260,340",
    file_format: Annotated[
        Format, typer.Option("--format", help="Format of the CT and the label maps.")
    ] = "nii.gz",
    picture: Annotated[
        bool, typer.Option("--picture/--no-picture", help=f"Write a PA radiograph, {_PICTURE}.")
    ] = True,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="Where it is painted: cpu, or cuda.")
    ] = "cpu",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are already there.")
    ] = False,
) -> None:
    """Make a synthetic patient: CT, anatomy, findings, report and landmarks.

    The paths of the files written are printed, one a line. The same options give the same
    files on every computer.
    """
    if list_findings:
        console.result(_findings_text())
        return
    if out is None:
        raise typer.BadParameter("it is needed.", param_hint="--out")
    size = _size(size_mm)
    from napari_cxr3d.phantom import make_thorax

    with usage_errors(), console.interruptible() as cancel:
        case = make_thorax(
            seed,
            size,
            spacing_mm,
            sex,
            habitus,
            _findings(finding),
            age=age,
            phase=phase,
            arms=arms,
            table=table,
            device=device,
            cancel=cancel,
        )
    for path in _write(case, out, file_format, picture, overwrite):
        console.result(str(path))


def _size(text: str) -> tuple[float, float, float]:
    try:
        i, p, ell = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not of the form I,P,L in mm.", param_hint="--size-mm"
        ) from None
    return i, p, ell


def _findings(words: list[str] | None) -> str | list[str] | None:
    if words and [w.strip().lower() for w in words] == ["random"]:
        return "random"
    return words or None


def _findings_text() -> str:
    from napari_cxr3d.phantom.findings.vocabulary import FINDINGS

    blocks = []
    for kind in FINDINGS:
        names = ", ".join((kind.name, *kind.aliases))
        where = "; ".join(", ".join(w) for w in (kind.sides, kind.places, kind.styles) if w)
        lines = [names, f"  {kind.measure}"]
        if where:
            lines.append(f"  where: {where}")
        blocks.append("\n".join(lines))
    return "\n".join(blocks)


def _write(
    case: PhantomCase, folder: Path, file_format: str, picture: bool, overwrite: bool
) -> list[Path]:
    """Write the patient's files, all or none."""
    from napari_cxr3d.io import write_like, write_volume
    from napari_cxr3d.io.destination import all_or_none, new_file, require_free, write_json

    folder = folder.expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{name}.{file_format}" for name in ("ct", "labels", "findings")]
    names += [_REPORT, _RECORD, *([_PICTURE] if picture else [])]
    for name in names:
        require_free(folder / name, overwrite=overwrite)
    ct, labels, findings = (folder / name for name in names[:3])
    with all_or_none() as written:
        written.append(
            write_volume(
                case.volume, ct, provenance=case.provenance().to_dict(), overwrite=overwrite
            )
        )
        written.append(write_like(case.labels, case.volume, labels, overwrite=overwrite))
        written.append(write_like(case.finding_bits, case.volume, findings, overwrite=overwrite))
        with new_file(folder / _REPORT, overwrite=overwrite) as temporary:
            temporary.write_text(case.report.rstrip() + "\n", encoding="utf-8")
        written.append(folder / _REPORT)
        write_json(folder / _RECORD, _record(case), overwrite=overwrite)
        written.append(folder / _RECORD)
        if picture:
            written += _picture(case, folder / _PICTURE, overwrite)
    return written


def _record(case: PhantomCase) -> dict[str, Any]:
    """The case's record, with the keys to its label maps."""
    from napari_cxr3d.phantom.findings.vocabulary import FINDINGS
    from napari_cxr3d.phantom.labels import Label

    return {
        **case.to_dict(),
        "label_values": {label.name.lower(): int(label) for label in Label},
        "finding_bits": {kind.name: kind.bit for kind in FINDINGS},
    }


def _picture(case: PhantomCase, path: Path, overwrite: bool) -> tuple[Path, ...]:
    from napari_cxr3d.imaging import preset
    from napari_cxr3d.inference import DrrRequest, render_drr
    from napari_cxr3d.io import save_radiograph

    result = render_drr(DrrRequest(volume=case.volume, views=(preset("pa"),), remove_table=True))
    return save_radiograph(
        result.radiograph(), path, provenance=result.provenance.to_dict(), overwrite=overwrite
    )
