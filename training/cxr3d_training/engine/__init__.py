"""The training engine: settings, the loop, checkpoints, devices.

Importing this package loads no torch; `cxr3d_training.engine.fit` does.
"""
