"""What pyproject.toml cannot say: the presets of training/configs ship inside cxr3d_training."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["napari_cxr3d*"]),
        *find_packages("training", include=["cxr3d_training*"]),
        "cxr3d_training.configs",
    ],
    package_dir={
        "cxr3d_training": "training/cxr3d_training",
        "cxr3d_training.configs": "training/configs",
    },
)
