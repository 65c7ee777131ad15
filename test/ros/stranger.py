"""A program that has never heard of edge_vision: plain rclpy, sensor_msgs, vision_msgs. Prints what it gets as JSON.

`stranger.py listen N`: N detection arrays and N track arrays, the images' headers, and, as somebody who comes
late, the label information. Run by test_stranger.py in a process of its own.
"""

import json
import sys

import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray, LabelInfo


def header(message):
    return {"stamp": message.header.stamp.sec * 10**9 + message.header.stamp.nanosec, "frame": message.header.frame_id}


def element(detection):
    hypothesis = detection.results[0].hypothesis
    centre = detection.bbox.center.position
    return {
        **header(detection),
        "id": detection.id,
        "class_id": hypothesis.class_id,
        "score": hypothesis.score,
        "centre": [centre.x, centre.y],
        "size": [detection.bbox.size_x, detection.bbox.size_y],
        "results": len(detection.results),
    }


def array(message):
    return {**header(message), "elements": [element(detection) for detection in message.detections]}


def main(count):
    rclpy.init()
    node = rclpy.create_node("stranger")
    got = {"images": [], "detections": [], "tracks": [], "labels": []}
    node.create_subscription(Image, "image_raw", lambda m: got["images"].append(header(m)), qos_profile_sensor_data)
    node.create_subscription(Detection2DArray, "detections", lambda m: got["detections"].append(array(m)), 10)
    node.create_subscription(Detection2DArray, "tracks", lambda m: got["tracks"].append(array(m)), 10)
    while min(len(got["images"]), len(got["detections"]), len(got["tracks"])) < count:
        rclpy.spin_once(node)
    late = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_subscription(
        LabelInfo,
        "label_info",
        lambda m: got["labels"].append({entry.class_id: entry.class_name for entry in m.class_map}),
        late,
    )
    while not got["labels"]:
        rclpy.spin_once(node)
    print(json.dumps({"modules": [name for name in sys.modules if name.startswith("edge_vision")], **got}))
    node.destroy_node()
    rclpy.shutdown()


main(int(sys.argv[2]))
