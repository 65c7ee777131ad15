"""Signed and encrypted bundles in a running node: what is refused leaves the model that runs, and no key shows."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.qos import QoSProfile
from ros_harness import image_message, square
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from edge_vision.inference.security import (
    new_encryption_key,
    new_signing_key,
    package,
    private,
    read_encryption_key,
    read_signing_key,
)

pytest.importorskip("cryptography", reason="cryptography signs and encrypts: pip install cryptography")

STEP = 40_000_000  # ns between two images


@dataclass(frozen=True)
class Sealed:
    """Bundles, and the keys of those that are right. secret: the text of the encryption key."""

    trusted: Path
    key: Path
    secret: str
    first: Path
    second: Path
    unsigned: Path
    strange: Path
    other_key: Path
    tampered: Path
    cut: Path


@pytest.fixture(scope="module")
def sealed(model, other_model, tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    folder = tmp_path_factory.mktemp("sealed")
    trusted = folder / "trusted"
    trusted.mkdir()
    for name in ("signing", "stranger"):
        new_signing_key(folder / name)
    (folder / "signing.pub").rename(trusted / "signing.pub")
    for name in ("key", "key2"):
        new_encryption_key(folder / name)
    mine, stranger = (read_signing_key(f"file:{folder / name}") for name in ("signing", "stranger"))
    key, key2 = (read_encryption_key(f"file:{folder / name}") for name in ("key", "key2"))
    first, _ = package(model, folder / "first", signing=[mine], encryption=key, archive=True)
    second, _ = package(other_model, folder / "second", signing=[mine], encryption=key)
    tampered = Path(shutil.copytree(second, folder / "tampered"))
    content = bytearray((tampered / "other.onnx.enc").read_bytes())
    content[len(content) // 2] ^= 4
    (tampered / "other.onnx.enc").write_bytes(content)
    cut = folder / "cut.evb"
    cut.write_bytes(first.read_bytes()[:-1000])
    return Sealed(
        trusted=trusted,
        key=folder / "key",
        secret=(folder / "key").read_text().strip(),
        first=first,
        second=second,
        unsigned=package(other_model, folder / "unsigned")[0],
        strange=package(other_model, folder / "strange", signing=[stranger])[0],
        other_key=package(other_model, folder / "other_key", signing=[mine], encryption=key2)[0],
        tampered=tampered,
        cut=cut,
    )


def unpacked_by(pid: int) -> list[Path]:
    """Files of bundles that a process holds unpacked, or left behind."""
    links = Path("/dev/shm").glob(f"{private.PREFIX}*/**/*")
    return [link for link in links if link.is_symlink() and str(link.readlink()).startswith(f"/proc/{pid}/")]


@pytest.mark.parametrize("form", ["file", "env", "command"])
def test_a_node_takes_only_what_is_signed_and_keeps_its_model(observer, start, sealed, model, form) -> None:
    reference = {
        "file": f"file:{sealed.key}",
        "env": "env:ROBOT_MODEL_KEY",
        "command": f"command:{sys.executable} -c 'print(open(\"{sealed.key}\").read())'",
    }[form]
    namespace = f"/sealed_{form}"
    name, node = f"sealed_{form}/inference", f"{namespace}/inference"
    wanted = {
        "model": sealed.first,
        "backend": "onnxruntime",
        "bundle_policy": "signed",
        "trusted_keys": sealed.trusted,
        "bundle_key": reference,
    }
    environment = {"ROBOT_MODEL_KEY": sealed.secret} if form == "env" else None
    process = start("inference", parameters=wanted, namespace=namespace, environment=environment)
    values = observer.fresh_values(name, process)
    assert values["model"] == "brightest"
    assert values["bundle"].startswith("signed by ")
    assert values["bundle"].endswith(", encrypted")
    images = observer.publisher(Image, f"{namespace}/image_raw")
    observer.wait_for_subscriber(images, process)
    stamp = 0

    def finds() -> None:
        """An image is answered. Sent again now and then: the first answers may go before the node knows its reader."""
        nonlocal stamp
        seen, again = len(found), 0.0

        def answered() -> bool:
            nonlocal stamp, again
            if time.monotonic() > again:
                stamp, again = stamp + STEP, time.monotonic() + 1.0
                images.publish(image_message(square((60, 60, 100, 100)), stamp))
            return len(found) > seen

        observer.spin_until(answered, f"detections of {name}", process)
        assert len(found[-1].detections) == 1

    with observer.listen(Detection2DArray, f"{namespace}/detections", QoSProfile(depth=50)) as found:
        finds()
        told = {
            "tampered": "other.onnx.enc: was changed or cut off",
            "cut": "is no whole archive",
            "unsigned": "is not signed",
            "strange": "whom nobody here trusts",
            "other_key": "encrypted with another key",
        }
        for kind in told if form == "file" else ("tampered",):
            successful, reason = observer.set_parameter(node, "model", str(getattr(sealed, kind)))
            assert not successful
            assert told[kind] in reason
            assert private.PREFIX not in reason
            finds()
            assert observer.fresh_values(name, process)["model"] == "brightest"
        if form == "file":
            successful, reason = observer.set_parameter(node, "model", str(model))  # a bare file
            assert not successful
            assert "is not signed" in reason
            for parameter, value in (("bundle_policy", "any"), ("trusted_keys", ""), ("bundle_key", "")):
                assert not observer.set_parameter(node, parameter, value)[0]
        assert observer.set_parameter(node, "model", str(sealed.second)) == (True, "")
        finds()
        assert observer.fresh_values(name, process)["model"] == "other"
    # Where the key is may be seen, the key not.
    names = observer.call(ListParameters, f"{node}/list_parameters", ListParameters.Request()).result.names
    dump = observer.call(GetParameters, f"{node}/get_parameters", GetParameters.Request(names=names))
    assert reference.replace('"', "") in str(dump).replace('\\"', "").replace('"', "").replace("\\'", "'")
    for shown in (str(dump), process.log, str(observer.diagnostics[name])):
        assert sealed.secret not in shown
        assert "PRIVATE KEY" not in shown
    pid = process.pid
    assert process.stop() == 0
    assert not unpacked_by(pid)
    observer.node.destroy_publisher(images)


def test_a_node_that_starts_with_a_tampered_bundle_says_so_and_can_be_mended(observer, start, sealed) -> None:
    wanted = {"model": sealed.tampered, "bundle_policy": "signed", "trusted_keys": sealed.trusted}
    parameters = wanted | {"bundle_key": f"file:{sealed.key}", "backend": "onnxruntime"}
    process = start("inference", parameters=parameters, namespace="/bad_start")
    (line,) = process.wait_for_log(r"\[ERROR\].*cannot configure: .*other\.onnx\.enc: was changed or cut off")
    assert "Traceback" not in process.log
    assert "package it again" in line
    status = observer.wait_for_status("bad_start/inference", DiagnosticStatus.ERROR, process)
    assert "was changed" in status.message
    node = "/bad_start/inference"
    assert observer.set_parameter(node, "model", str(sealed.second)) == (True, "")
    assert observer.change_state(node, "configure")
    assert observer.change_state(node, "activate")
    assert observer.fresh_values("bad_start/inference", process)["model"] == "other"
    assert process.stop() == 0


def test_a_key_that_others_can_read_is_warned_of_and_a_bad_policy_told(observer, start, sealed, tmp_path) -> None:
    key = tmp_path / "key"
    shutil.copyfile(sealed.key, key)
    key.chmod(0o644)
    wanted = {"model": sealed.second, "backend": "onnxruntime"}
    process = start("inference", parameters=wanted | {"bundle_key": f"file:{key}"}, namespace="/open_key")
    process.wait_for_log(rf"\[WARN\].*the bundle key's file {key} can be read by others")
    assert observer.fresh_values("open_key/inference", process)["model"] == "other"
    nobody = start("inference", parameters=wanted | {"bundle_policy": "signed"}, namespace="/nobody")
    nobody.wait_for_log(r"\[ERROR\].*cannot configure: .*trusts nobody")
    plain = start("inference", parameters=wanted | {"bundle_key": sealed.secret}, namespace="/plain_key")
    plain.wait_for_log(r"\[ERROR\].*cannot configure: .*not given as a reference")
    assert sealed.secret not in plain.log


def test_a_node_that_is_ended_while_it_loads_leaves_nothing(observer, start, sealed, tmp_path) -> None:
    """It measures candidates, in processes of their own, from the files that it has unpacked."""
    wanted = {"model": sealed.second, "bundle_key": f"file:{sealed.key}"}
    environment = {"EDGE_VISION_TUNING": "on", "EDGE_VISION_CACHE": str(tmp_path / "cache")}
    process = start("inference", parameters=wanted, namespace="/ended", environment=environment)
    process.wait_for_log("measuring .* ways to run other")
    folders = {link.parent for link in unpacked_by(process.pid)}
    assert len(folders) == 1
    process.send(signal.SIGTERM)
    process.wait()
    assert not any(folder.exists() for folder in folders)
