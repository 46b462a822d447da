"""Who a scan is of, without saying so: patients as keyed hashes.

A dataset holds no name, no patient number and no file path. What tells patients apart is hashed
with a secret (HMAC-SHA256), since a bare hash of a hospital's number is undone by trying all
numbers. The secret stays outside the dataset; two datasets made with the same one agree on who is
who.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from napari_cxr3d.errors import InvalidInputError, UnreadableFileError

__all__ = ["PUBLIC", "Identities", "patient_from_name", "user_identities"]

_LEAST_BYTES = 16

# What stands behind a patient's part of a file name: the spacing, and the number of the series,
# scan, session or time point. BIDS names (sub-07_ses-01_ct) fall under the same rule.
_TRAILERS = re.compile(
    r"[-_. ]+(?:"
    r"\d+(?:p\d+|\.\d+)?mm"
    r"|(?:s|ser|series|scan|ses|session|tp|timepoint|visit|acq|recon|rec|run|t)[-_]?\d+"
    r"|ct|chest|thorax|img|image|volume|vol"
    r")(?=$|[-_. ])",
    re.IGNORECASE,
)
_SUFFIXES = re.compile(r"\.(?:nii\.gz|nii|nrrd|nhdr|mha|mhd|dcm|zip)$", re.IGNORECASE)


def patient_from_name(name: str) -> str:
    """The patient's part of a file's name.

    The suffix goes, and what names a spacing, a series, a scan, a session or a time point:
    ``lungdx-a0002-s2_2mm.nii.gz`` and ``lungdx-a0002_2mm.nii.gz`` are both ``lungdx-a0002``. The
    rule would rather join two patients than part one: joined patients share a side of the split.
    """
    stem = _SUFFIXES.sub("", PurePosixPath(name).name)
    short = _TRAILERS.sub("", stem)
    return (short or stem).lower()


@dataclass(frozen=True)
class Identities:
    """Hashes of patients and places under one secret.

    Attributes
    ----------
    secret : bytes
        The key; empty for public data, so that every machine gives the same ids.
    """

    secret: bytes = field(repr=False)

    @property
    def check(self) -> str:
        """What a dataset keeps to know the secret again, and cannot give it away."""
        return "public" if not self.secret else self._hash("check", "")[:16]

    def patient(self, text: str) -> str:
        """The id of a patient, as in ``p-1f3a…``."""
        return f"p-{self._hash('patient', text)[:16]}"

    def place(self, text: str) -> str:
        """The id of a source: a path relative to what the user gave, and a series."""
        return self._hash("place", text)[:24]

    def _hash(self, kind: str, text: str) -> str:
        return hmac.new(self.secret or b"public", f"{kind}:{text}".encode(), "sha256").hexdigest()


PUBLIC = Identities(b"")
"""Without a secret: for data that is public anyway, where every machine shall agree."""


def user_identities(path: Path | None = None) -> Identities:
    """Identities under the secret in a file; it is made where there is none.

    Parameters
    ----------
    path : Path, optional
        The file; one in the user's own data folder when None.

    Raises
    ------
    UnreadableFileError
        If the file cannot be read or made.
    InvalidInputError
        If it is too short to be a secret.
    """
    if path is None:
        from platformdirs import user_data_path

        path = user_data_path("napari-cxr3d") / "patient-secret"
    try:
        if not path.exists():
            _write_secret(path)
        secret = path.read_bytes().strip()
    except OSError as error:
        raise UnreadableFileError(
            "The secret that patients are hashed with cannot be read or made",
            why=error.strerror or type(error).__name__,
            remedy="check its folder's permissions, or name another file with --secret",
            path=path,
        ) from error
    if len(secret) < _LEAST_BYTES:
        raise InvalidInputError(
            "The file is too short to be a secret",
            why=f"it holds {len(secret)} bytes and {_LEAST_BYTES} are needed",
            remedy="name a file that does not exist yet: it is made",
            path=path,
        )
    return Identities(secret)


def _write_secret(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(secrets.token_hex(32).encode())
    try:
        os.link(temporary, path)  # unlike a renaming, it fails where another process was first
    except FileExistsError:
        pass
    except OSError:
        os.replace(temporary, path)  # a file system without links
        return
    temporary.unlink()
