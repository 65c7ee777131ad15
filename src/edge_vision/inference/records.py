"""What was proven of a bundle: one record for each variant on each backend, written by `edge_vision verify`.

The records lie beside the model (`verification.json` in a bundle's folder, `<model>.verification.json` beside a bare
file) or, where that folder cannot be written, in the cache under the model's hash.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge_vision.inference.bundle import Bundle, Variant
from edge_vision.inference.errors import ModelError
from edge_vision.paths import cache_directory
from edge_vision.whole_files import write_text

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Record:
    """One variant on one backend, against fp32 ONNX Runtime.

    sha256: of the variant's file; precision: asked of the backend; passed: within `tolerance`; problem: what was out of
    it, or why it did not run; measured: the figures; machine: the kind of processor, whose arithmetic it is.
    """

    backend: str
    device: str
    precision: str
    file: str
    sha256: str
    runtime_version: str
    passed: bool
    problem: str = ""
    tolerance: Mapping[str, float] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)
    machine: str = field(default_factory=platform.machine)

    @property
    def key(self) -> tuple[str, ...]:
        """What there is one record of."""
        return self.backend, self.device, self.precision, self.file, self.machine


def records_path(bundle: Bundle) -> Path:
    """Where the records lie beside the model."""
    if bundle.file.suffix in (".yaml", ".yml"):
        return bundle.folder / "verification.json"
    return bundle.file.with_name(f"{bundle.file.name}.verification.json")


def _in_cache(bundle: Bundle) -> Path:
    return cache_directory("verification") / f"{bundle.variants[0].digest}.json"


def read_records(bundle: Bundle) -> tuple[Record, ...]:
    """The records of a bundle, () where there are none; those in the cache are the newer ones, for they are written
    where the model's folder cannot be. Raises ModelError for a file that is not right."""
    found: dict[tuple[str, ...], Record] = {}
    for path in (records_path(bundle), _in_cache(bundle)):
        found |= {record.key: record for record in _read(path)}
    return tuple(found.values())


def _read(path: Path) -> tuple[Record, ...]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}")
        return tuple(Record(**entry) for entry in content["records"])
    except OSError:
        return ()
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(path, f"is no verification record: {error}", "run `edge_vision verify` again") from error


def write_records(bundle: Bundle, records: Sequence[Record]) -> Path:
    """Write the records, all there are to be, beside the model, or into the cache where that cannot be written; the
    path they went to."""
    text = json.dumps({"format": FORMAT, "records": [asdict(record) for record in records]}, indent=1) + "\n"
    path = records_path(bundle)
    try:
        if bundle.seal:
            raise PermissionError("it is sealed: a file more or less would break that")
        if not path.parent.is_dir():
            raise FileNotFoundError("a bundle that is gone is not made anew")
        write_text(path, text)
    except OSError:
        path = _in_cache(bundle)
        write_text(path, text)
    else:
        _in_cache(bundle).unlink(missing_ok=True)  # older than what was written
    return path


def find_record(
    records: Sequence[Record], variant: Variant, backend: str, device: str, precision: str
) -> Record | None:
    """The record of this file as it is now on this backend, device and precision of this kind of processor; None where
    there is none."""
    key = (backend, device, precision, variant.path.name, platform.machine())
    found = next((record for record in records if record.key == key), None)
    if found is None or found.sha256 != variant.digest:
        return None
    return found
