"""`bench tracking`: the crowd, the peers' forms and the measurement itself, without a figure asserted."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from edge_vision.benchmarks import peer_process, tracking
from edge_vision.benchmarks.crowd import Crowd, make_crowd
from edge_vision.benchmarks.peer_process import LocalPeers, PeerFailed, PeerProcess
from edge_vision.benchmarks.tracking_peers import PEERS, DetectorThreshold, Ours, Peer, available
from edge_vision.datatypes import Detections


@pytest.mark.parametrize("objects", [1, 10, 100])
def test_a_crowd_is_the_same_every_time_and_as_large_as_asked(objects: int) -> None:
    crowd = Crowd(objects, 40, seed=2)
    detections, truth = make_crowd(crowd)
    again, _ = make_crowd(crowd)
    other, _ = make_crowd(Crowd(objects, 40, seed=3))
    assert all(np.array_equal(a.boxes, b.boxes) for a, b in zip(detections, again, strict=True))
    assert not all(np.array_equal(a.boxes, b.boxes) for a, b in zip(detections, other, strict=True))
    assert all(len(frame) == objects and len(set(frame.ids.tolist())) == objects for frame in truth)
    assert np.all(np.diff([frame.stamp for frame in detections]) > 0)
    for frame in detections:
        assert np.isfinite(frame.boxes).all()
        assert (frame.boxes[:, 2:] > frame.boxes[:, :2]).all()
        assert ((frame.scores > 0) & (frame.scores < 1)).all()


def test_a_crowd_has_births_misses_and_false_boxes() -> None:
    detections, truth = make_crowd(Crowd(100, 60))
    assert truth[-1].ids.max() > 100
    assert (truth[0].ids == np.arange(1, 101)).all()
    counts = [len(frame) for frame in detections]
    assert min(counts) < 100 < max(counts)
    assert sum(int((frame.scores < 0.6).sum()) for frame in detections) > 60
    quiet, _ = make_crowd(Crowd(20, 10, missed=0, weak=0, false=0))
    assert all(len(frame) == 20 and frame.scores.min() > 0.6 for frame in quiet)


def test_a_section_a_size_with_checks_for_ours() -> None:
    settings = tracking.Settings(objects=(3, 10), frames=14, rounds=2, peers=False)
    steps: list[int] = []
    sections = tracking.measure(settings, steps.append)
    assert sum(steps) == tracking.work(settings) == 4
    assert [section.title.split(",")[0] for section in sections] == ["3 objects", "10 objects"]
    names = [row.name for row in sections[0].rows]
    assert names[0] == "edge_vision"
    assert "edge_vision: bytetrack" in names
    assert all(row.latency.count == 2 * 4 for row in sections[0].rows)
    assert [check.limit for check in sections[1].checks] == [0.15]
    assert not sections[0].checks  # no target for three


@pytest.mark.parametrize("wrong", [{"objects": (0,)}, {"frames": 5}, {"rounds": 0}, {"presets": ("sort",)}])
def test_settings_without_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"leave it in|at least one object"):
        tracking.measure(tracking.Settings(**wrong))


def test_peers_are_compared_where_they_are_installed() -> None:
    found, missing = available()
    assert {peer.package for peer in found} | set(missing) >= {"trackers", "ultralytics", "norfair", "motpy"}
    assert len({peer.name for peer in PEERS}) == len(PEERS)
    if not found:
        pytest.skip(f"no peer is installed: {missing}")
    frames, truth = make_crowd(Crowd(5, 20))
    for peer in found:
        warps = np.tile(np.eye(2, 3), (20, 1, 1)) if peer.warps else None
        run = peer_process.track(peer.make(30.0), frames, warps)
        assert (run.ns > 0).all()
        assert 2 <= len(run.frames[-1].ids) <= len(truth[-1]) + 3, peer.name


def test_a_peer_that_fails_is_named_and_the_others_go_on() -> None:
    class Broken(Ours):
        def update(self, converted: Detections, warp: object) -> None:
            raise RuntimeError("out of luck")

    local = LocalPeers()
    local._peers = [Peer("broken", "none", lambda rate: Broken("sort"))]
    with pytest.raises(PeerFailed, match="broken: RuntimeError: out of luck"):
        local.track("broken", make_crowd(Crowd(2, 3))[0], 30.0)


def test_weak_boxes_can_be_kept_from_a_peer() -> None:
    frames, _ = make_crowd(Crowd(10, 2))
    assert len(DetectorThreshold(Ours("sort"), 0.99).convert(frames[0])) == 0
    assert len(DetectorThreshold(Ours("sort"), 0.0).convert(frames[0])) == len(frames[0])


def test_another_interpreter_tracks_what_this_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    process = PeerProcess(sys.executable)  # this one stands for an environment with other packages
    try:
        local = LocalPeers()
        assert [peer.name for peer in process.peers] == [peer.name for peer in local.peers]
        assert process.versions() == local.versions()
        with pytest.raises(PeerFailed, match="no tracker called nobody"):
            process.track("nobody", make_crowd(Crowd(2, 3))[0], 30.0)
    finally:
        process.close()
    assert process._process.returncode == 0


def test_frames_go_to_another_interpreter_unchanged(tmp_path) -> None:
    frames, _ = make_crowd(Crowd(4, 5))
    warps = np.random.default_rng(0).normal(size=(5, 2, 3))
    np.savez(tmp_path / "given.npz", **peer_process._pack([*frames, Detections(stamp=7)], warps))
    back, moved = peer_process._unpack(str(tmp_path / "given.npz"))
    assert len(back) == 6
    assert all(np.array_equal(a.boxes, b.boxes) and a.stamp == b.stamp for a, b in zip(frames, back, strict=False))
    assert np.array_equal(moved, warps)


def test_what_is_no_python_is_told() -> None:
    with pytest.raises(PeerFailed, match="cannot be started"):
        PeerProcess("/no/such/python")
    with pytest.raises(PeerFailed, match="has ended"):
        PeerProcess("/bin/false")
