"""What the tests of several networks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session")
def codec_card() -> Callable[[str], dict[str, Any]]:
    """``codec_card(name)`` is the card of a codec that nobody trained."""

    def card(name: str) -> dict[str, Any]:
        return {
            "name": name,
            "version": "1.0",
            "kind": "codec",
            "licence": "BSD-3-Clause",
            "intended_use": "Tests.",
            "limits": "Untrained.",
            "synthetic_training": True,
            "preprocessing": {"hu_window": [-1000, 1000]},
            "training": {"command": None, "seed": None, "data": None},
            "metrics": {},
        }

    return card
