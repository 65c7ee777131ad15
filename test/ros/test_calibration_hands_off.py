"""Nobody touches anything: a board is moved as the node asks, the node ends by itself, the camera goes by the result.

The camera (`sim://board`), the calibration and the hand that holds the board are processes of their own; what they know
of each other goes over topics and services.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from edge_vision.msg import CalibrationStatus
from edge_vision.srv import CalibrationFiles
from sensor_msgs.msg import CameraInfo
from std_srvs.srv import Trigger

from edge_vision.calibration.camera_info_file import read_camera_info
from edge_vision.calibration.difference import difference
from edge_vision.simulation.board_options import BoardOptions

pytestmark = pytest.mark.timeout(300)  # a whole calibration, at the speed of a hand

SOURCE = "sim://board?width=640&height=480&fps=15&seed=3"
BOARD = "charuco_9x7_25mm"


def test_a_camera_is_calibrated_without_a_hand_on_it(observer, start, tmp_path) -> None:
    home = {"ROS_HOME": str(tmp_path)}
    own = {"board": BOARD, "model": "plumb_bob", "bow": "off", "rate": 12.0}
    with (
        observer.listen(CalibrationStatus, "/cell/calibration_status") as states,
        observer.listen(CameraInfo, "/cell/camera_info") as infos,
    ):
        start("camera", parameters={"source": SOURCE}, namespace="/cell", environment=home)
        process = start("calibration", parameters=own | {"autocommit": True}, namespace="/cell", environment=home)
        observer.spin_until(lambda: infos and states, "camera and calibration", process)
        assert not any(infos[-1].k), "nobody has calibrated it yet"
        hand = {"speed": 1.5, "hold": 0.3, "patience": 1.0, "seed": 5}
        start("board_hand", parameters={"board": BOARD} | hand, namespace="/cell")
        begun = time.monotonic()
        usage = psutil.Process(process.pid)
        observer.spin_until(lambda: states[-1].state == "done", "the end of collecting", process, timeout=150)
        spent = usage.cpu_times()
        cpu = spent.user + spent.system
        print(f"{time.monotonic() - begun:.0f} s, {cpu:.1f} s of CPU, {states[-1].views} views: {states[-1].message}")
        assert states[-1].verdict == "good", states[-1].reasons
        observer.spin_until(lambda: states[-1].committed, "the commit", process)
        observer.spin_until(lambda: any(infos[-1].k), "the camera's new calibration", process)
        looks = {s.next_view for s in states if s.next_view}
        assert len(looks) > 3, "it asked for one view after the other"
        archive = Path(states[-1].archive)
    used = infos[-1]
    truth = BoardOptions.from_uri(SOURCE).camera_info()
    stored = read_camera_info(tmp_path / "camera_info" / "cell.yaml")
    assert (list(used.k), list(used.d)) == (stored.K.ravel().tolist(), stored.D.tolist())
    assert used.distortion_model == "plumb_bob"
    off = difference(truth, stored)
    print(f"from the truth: centre {off.centre:.3f} px, rms {off.rms:.3f} px, corners {max(off.corners):.3f} px")
    assert off.centre < 0.1, off
    assert off.rms < 0.25
    assert np.isclose(stored.K[0, 0], truth.K[0, 0], rtol=0.003)

    # Another day, from the archive alone: the same numbers to the last digit.
    again = own | {"collect": False, "archive": "''", "set_camera_info": "''"}
    start("calibration", parameters=again, namespace="/again", environment=home)
    folder = CalibrationFiles.Request(folder=str(archive))
    loaded = observer.call(CalibrationFiles, "/again/calibration/load_samples", folder)
    assert loaded.success, loaded.message
    for service in ("calibrate", "commit"):
        done = observer.call(Trigger, f"/again/calibration/{service}", Trigger.Request())
        assert done.success, done.message
    repeated = read_camera_info(tmp_path / "camera_info" / "again.yaml")
    assert repeated.K.tolist() == stored.K.tolist()
    assert repeated.D.tolist() == stored.D.tolist()
