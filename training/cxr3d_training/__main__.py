"""``python -m cxr3d_training``: the same as ``cxr3d-train``; torchrun starts it by this name."""

from cxr3d_training.cli import main

main()
