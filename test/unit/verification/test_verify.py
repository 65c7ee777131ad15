"""`verify` on real runtimes: what is equal passes, what is not fails with its figures and is not chosen."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_vision.inference import ModelError, load_bundle
from edge_vision.inference.errors import BackendError
from edge_vision.inference.hardware import detect_hardware
from edge_vision.inference.profiles import Candidate, Profile
from edge_vision.inference.records import Record, find_record, read_records, records_path, write_records
from edge_vision.inference.selection import Wish, candidates
from edge_vision.verification import FAILED, PASSED, Report, Row, as_dict, markdown, picture, take_frames, text, verify

for package in ("openvino", "pycocotools"):
    pytest.importorskip(package, reason=f"the Python package {package} is not installed")

CPU = Profile("test", (Candidate("onnxruntime"), Candidate("openvino")))
MIXED = {"backend": "onnxruntime", "precision": "int8", "file": "moved.onnx"}
BROKEN = {"backend": "openvino", "precision": "fp32", "file": "broken.xml"}


def row(report: Report, backend: str, file: str, precision: str = "fp32") -> Row:
    (found,) = [
        row
        for row in report.rows
        if (row.choice.backend, row.choice.variant.path.name, row.choice.precision) == (backend, file, precision)
    ]
    return found


@pytest.fixture(scope="module")
def mixed(
    tmp_path_factory: pytest.TempPathFactory,
    make_bundle: Callable[..., Path],
    make_detector: Callable[..., None],
    objects: tuple,
    pictures: Path,
) -> tuple[Path, Report]:
    """A bundle of the model, a `moved.onnx` whose first box lies 4 px to the right with one box too many, quantised,
    and a `broken.xml`; verified."""
    folder = tmp_path_factory.mktemp("models") / "mixed"
    folder.mkdir()
    moved = [(objects[0][0] + 4, *objects[0][1:]), *objects[1:], (20.0, 44.0, 16.0, 16.0, 0.7, 1)]
    make_detector(folder / "moved.onnx", moved, quantised=True)
    (folder / "broken.xml").write_text("<net name='none'/>", encoding="utf-8")
    make_bundle(folder, MIXED, BROKEN)
    told: list[tuple[str, int, int]] = []
    report = verify(
        load_bundle(folder),
        take_frames(str(pictures), 12),
        backends=("onnxruntime", "openvino"),
        threads=1,
        progress=lambda *news: told.append(news),
    )
    assert sum(done for _, done, _ in told) == told[-1][2] == (1 + len(report.rows)) * 12
    return folder, report


def test_equal_models_pass_and_may_be_chosen(mixed: tuple[Path, Report]) -> None:
    folder, report = mixed
    for backend in ("onnxruntime", "openvino"):
        equal = row(report, backend, "model.onnx")
        assert (equal.state, equal.problem) == (PASSED, "")
        assert equal.figures is not None
        assert equal.figures.matches.share == equal.figures.matches.strict_share == 1.0
        assert equal.figures.matches.reference == equal.figures.matches.candidate == 4 * 12
        assert [error.output for error in equal.figures.raw] == ["boxes"]
        assert equal.figures.raw_error < 1e-5
        assert equal.figures.map50_95 == pytest.approx(1.0)
        assert equal.runtime_version[0].isdigit()
    bundle = load_bundle(folder)
    choices, _ = candidates(bundle, Wish(), CPU, detect_hardware())
    assert "onnxruntime cpu fp32 (model.onnx)" in map(str, choices)
    records = read_records(bundle)
    record = find_record(records, bundle.variants[0], "openvino", "cpu", "fp32")
    assert record is not None
    assert record.passed
    assert record.tolerance["matched"] == 0.99
    assert (record.measured["frames"], record.measured["matched"]) == (12, 1.0)


def test_changed_weights_fail_with_figures_and_are_never_chosen(mixed: tuple[Path, Report]) -> None:
    folder, report = mixed
    assert not report.passed
    changed = row(report, "onnxruntime", "moved.onnx", "int8")
    assert changed.state == FAILED
    assert changed.figures is not None
    matches = changed.figures.matches
    assert (matches.reference, matches.candidate, matches.missing, matches.extra) == (48, 60, 12, 24)
    assert matches.share == pytest.approx(3 / 5)
    assert "matched 60 % of the boxes (90 % needed)" in changed.problem
    bundle = load_bundle(folder)
    choices, refused = candidates(bundle, Wish(), CPU, detect_hardware())
    assert "moved.onnx" not in {choice.variant.path.name for choice in choices}
    why = {name: error.problem for name, error in refused}
    assert why["onnxruntime cpu int8 (moved.onnx)"] == f"failed its verification: {changed.problem}"
    # Who names it gets it.
    named, _ = candidates(bundle, Wish("onnxruntime", precision="int8"), CPU, detect_hardware())
    assert [choice.variant.path.name for choice in named] == ["moved.onnx"]


def test_a_file_that_is_none_is_a_failed_row(mixed: tuple[Path, Report]) -> None:
    folder, report = mixed
    broken = row(report, "openvino", "broken.xml")
    assert (broken.state, broken.figures) == (FAILED, None)
    assert "openvino" in broken.problem
    record = find_record(read_records(load_bundle(folder)), broken.choice.variant, "openvino", "cpu", "fp32")
    assert record is not None
    assert (record.passed, record.problem, record.measured) == (False, broken.problem, {})
    _, refused = candidates(load_bundle(folder), Wish(), CPU, detect_hardware())
    assert "openvino cpu fp32 (broken.xml)" in {name for name, _ in refused}


def test_a_process_that_is_killed_is_a_failed_row(
    tmp_path: Path, make_bundle: Callable[..., Path], pictures: Path
) -> None:
    psutil = pytest.importorskip("psutil", reason="psutil is not installed: pip install psutil")
    bundle = load_bundle(make_bundle(tmp_path / "model"))

    def kill(candidate: str, done: int, _whole: int) -> None:
        """As the kernel does when memory runs out: in the middle of the frames, without a word."""
        for child in psutil.Process().children() if candidate.startswith("openvino") and done else ():
            with contextlib.suppress(psutil.Error):  # another of them has just ended by itself
                if "edge_vision.inference.worker_process" in child.cmdline():
                    child.kill()

    frames = take_frames(str(pictures), 12)
    report = verify(
        bundle, frames, backends=("onnxruntime", "openvino"), precisions=("fp32",), threads=1, progress=kill
    )
    assert [(one.choice.backend, one.state) for one in report.rows] == [("onnxruntime", PASSED), ("openvino", FAILED)]
    assert "was ended by signal 9" in report.rows[1].problem
    assert [record.passed for record in read_records(bundle)] == [True, False]


def test_a_precision_that_the_cpu_does_not_compute_in_proves_nothing(mixed: tuple[Path, Report]) -> None:
    folder, report = mixed
    records = read_records(load_bundle(folder))
    for one in report.rows:
        record = find_record(records, one.choice.variant, one.choice.backend, "cpu", one.choice.precision)
        assert (record is None) == (one.state == "skipped")


def test_the_report_in_every_form(mixed: tuple[Path, Report]) -> None:
    _, report = mixed
    table = text(report)
    assert "onnxruntime cpu int8 (moved.onnx)" in table
    assert "60.00%" in table
    assert markdown(report).count("\n| ") == 1 + len(report.rows)
    content = as_dict(report)
    assert content["passed"] is False
    assert {entry["state"] for entry in content["rows"]} >= {"passed", "failed"}
    image = picture(report)
    assert image is not None
    assert image.shape[1] >= 1280
    assert image.shape[0] > 1280 * 64 // 96


def test_a_changed_file_has_no_record(
    tmp_path: Path,
    make_bundle: Callable[..., Path],
    make_detector: Callable[..., None],
    objects: tuple,
    pictures: Path,
) -> None:
    folder = make_bundle(tmp_path / "model")
    frames = take_frames(str(pictures), 2)
    bundle = load_bundle(folder)
    verify(bundle, frames, backends=("onnxruntime",), threads=1)
    of_others = Record("openvino", "npu", "fp16", "model.onnx", read_records(bundle)[0].sha256, "1", True)
    stale = dataclasses.replace(of_others, device="gpu", sha256="0" * 64)
    write_records(bundle, [*read_records(bundle), of_others, stale])
    # What another machine's devices were found to do stays; what is of a file that is no more goes.
    report = verify(bundle, frames, backends=("onnxruntime",), threads=1)
    assert report.written == records_path(bundle)
    assert [(one.backend, one.device) for one in read_records(bundle)] == [("onnxruntime", "cpu"), ("openvino", "npu")]
    make_detector(folder / "model.onnx", objects[:2])
    changed = load_bundle(folder)
    assert find_record(read_records(changed), changed.variants[0], "onnxruntime", "cpu", "fp32") is None


def test_records_of_a_folder_that_cannot_be_written_go_to_the_cache(
    tmp_path: Path, make_bundle: Callable[..., Path], pictures: Path, own_cache: Path
) -> None:
    bundle = load_bundle(make_bundle(tmp_path / "model"))
    # Its folder is not there: that stops root, too, whom permissions do not.
    apart = dataclasses.replace(bundle, folder=tmp_path / "none", file=tmp_path / "none" / "model.yaml")
    report = verify(apart, take_frames(str(pictures), 1), backends=("onnxruntime",), threads=1)
    assert report.written is not None
    assert own_cache in report.written.parents
    assert [record.passed for record in read_records(apart)] == [True]


def test_nothing_is_written_when_not_wanted(tmp_path: Path, make_bundle: Callable[..., Path], pictures: Path) -> None:
    bundle = load_bundle(make_bundle(tmp_path / "model"))
    frames = take_frames(str(pictures), 1)
    report = verify(bundle, frames, backends=("onnxruntime",), threads=1, write=False)
    assert (report.written, read_records(bundle)) == (None, ())


def test_what_is_not_here_is_listed_and_what_there_is_not_refused(
    tmp_path: Path, make_bundle: Callable[..., Path], pictures: Path
) -> None:
    bundle = load_bundle(make_bundle(tmp_path / "model"))
    frames = take_frames(str(pictures), 1)
    report = verify(bundle, frames, backends=("onnxruntime", "ncnn"), threads=1, write=False)
    assert [absent.backend for absent in report.absent] == ["ncnn"]  # not installed, or without a file that it reads
    with pytest.raises(BackendError, match=r"nothing to verify: onnxruntime: has cpu.* here"):
        verify(bundle, frames, backends=("onnxruntime",), devices=("npu",))
    with pytest.raises(BackendError, match="there is no backend 'onxruntime'"):
        verify(bundle, frames, backends=("onxruntime",))
    with pytest.raises(ValueError, match="there is no precision 'fp23'"):
        verify(bundle, frames, precisions=("fp23",))


def test_frames_without_objects_prove_nothing(
    tmp_path: Path, make_bundle: Callable[..., Path], make_detector: Callable[..., None], pictures: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    make_detector(folder / "model.onnx", [])
    with pytest.raises(ModelError, match=r"finds nothing at score 0\.3 or above in 1 frames.*Give frames that show"):
        verify(load_bundle(make_bundle(folder)), take_frames(str(pictures), 1), backends=("onnxruntime",), threads=1)


def test_without_an_fp32_onnx_file_there_is_nothing_to_compare_with(
    tmp_path: Path, make_bundle: Callable[..., Path], pictures: Path
) -> None:
    bundle = load_bundle(make_bundle(tmp_path / "model"))
    half = dataclasses.replace(bundle, variants=(dataclasses.replace(bundle.variants[0], precision="fp16"),))
    with pytest.raises(ModelError, match=r"has no fp32 \.onnx file, .*; it has model\.onnx \(fp16\)"):
        verify(half, take_frames(str(pictures), 1))
