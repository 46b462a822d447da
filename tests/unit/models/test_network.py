"""A description builds the networks that it may, and nothing else."""

from __future__ import annotations

import sys

import pytest
import torch

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.network import build_network, check_description, outline_network

HAAR = {"_target_": "napari_cxr3d.models.codecs.HaarCodec", "levels": 1}


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
        "torch.nn.Linear",
        "torch.hub.load",
        "monai.bundle.load",
        "monai.networks.nets.resnet10",
        "monai.networks.nets.EfficientNetBN",
        "monai.networks.nets.TorchVisionFCModel",
        "monai.networks.nets.autoencoderkl.torch.load",
        "napari_cxr3d.cli.main",
        "napari_cxr3d.modelsevil.Net",
        "napari_cxr3d.models.codecs.base._drawn",
        "napari_cxr3d.models.__loader__.x",
        "HaarCodec",
        "napari_cxr3d.models.codecs:HaarCodec",
        "napari_cxr3d.models..HaarCodec",
        "napari_cxr3d.models.codecs.HaarCodec\n",
        "",
        None,
        ["os.system"],
    ],
)
def test_only_networks_may_be_named(target) -> None:
    with pytest.raises(InvalidInputError, match="refused"):
        check_description({"_target_": target})
    with pytest.raises(InvalidInputError, match="refused"):
        check_description(HAAR | {"inner": [{"_target_": target}]})


@pytest.mark.parametrize(
    "extra",
    [
        {"levels": "$__import__('os').system('true')"},
        {"levels": "@other::levels"},
        {"levels": "%other.yaml"},
        {"levels": [" $1"]},
        {"_requires_": "$x"},
        {"_disabled_": True},
        {"_mode_": "debug"},
        {"$x": 1},
        {1: 2},
        {"pretrained": True},
        {"inner": {"pretrained": "resnet.pth"}},
        {"url": "https://example.org"},
        {"levels": object()},
        {"levels": {1, 2}},
    ],
)
def test_nothing_in_a_description_is_evaluated_or_fetched(extra) -> None:
    with pytest.raises(InvalidInputError, match="refused"):
        check_description(HAAR | extra)


def test_a_description_without_a_target_or_without_end_is_refused() -> None:
    for wrong in ({}, [], "napari_cxr3d.models.codecs.HaarCodec", None, {"levels": 1}):
        with pytest.raises(InvalidInputError, match="_target_"):
            check_description(wrong)
    endless = dict(HAAR)
    endless["inner"] = endless
    with pytest.raises(InvalidInputError, match="too deeply"):
        check_description(endless)


@pytest.mark.parametrize(
    "target",
    [
        "napari_cxr3d.models.bundle.open_bundle",  # a function
        "napari_cxr3d.models.HuWindow",  # a class, but no network
        "napari_cxr3d.models.codecs.base.Tensor",  # torch's, seen through our module
        "napari_cxr3d.models.codecs.base.nn",
    ],
)
def test_what_is_no_network_of_ours_is_not_called(target) -> None:
    with pytest.raises(InvalidInputError, match="not a network's class"):
        build_network({"_target_": target, "path": "x"})


def test_a_foreign_class_seen_through_our_module_is_not_built(monkeypatch) -> None:
    from napari_cxr3d.models.codecs import base

    monkeypatch.setattr(base, "Foreign", torch.nn.Linear, raising=False)
    with pytest.raises(InvalidInputError, match="not a network's class"):
        build_network(
            {
                "_target_": "napari_cxr3d.models.codecs.base.Foreign",
                "in_features": 1,
                "out_features": 1,
            }
        )


def test_an_unknown_network_or_argument_is_told() -> None:
    with pytest.raises(InvalidInputError, match=r"no network called.*Update napari-cxr3d"):
        build_network({"_target_": "napari_cxr3d.models.codecs.WarpCodec"})
    with pytest.raises(InvalidInputError, match="no network called"):
        build_network({"_target_": "napari_cxr3d.models.absent.Net"})
    with pytest.raises(InvalidInputError, match=r"cannot be built.*depth"):
        build_network(HAAR | {"depth": 3})


def test_checking_imports_nothing() -> None:
    check_description({"_target_": "napari_cxr3d.models.absent.Net"})
    assert "napari_cxr3d.models.absent" not in sys.modules


def test_a_network_is_outlined_without_memory_for_it() -> None:
    huge = {
        "_target_": "monai.networks.nets.AutoencoderKL",
        "spatial_dims": 3,
        "channels": [32768, 32768],
        "attention_levels": [False, False],
        "num_res_blocks": 1,
    }
    outline = outline_network(huge)  # 1e12 numbers, were they there
    assert sum(p.numel() for p in outline.parameters()) > 1e11
    assert all(p.is_meta for p in outline.parameters())
    assert torch.ones(1).device.type == "cpu"
