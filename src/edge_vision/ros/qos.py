"""Quality of service by kind of topic, and how it can be overridden."""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

# Consumers of images take what is newest and never make the camera wait (REP 2003's sensor data, depth 1). Which of the
# two reliabilities a subscription has follows its publishers (see `follow`); what is here holds until there are some.
IMAGE_INPUT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT, history=HistoryPolicy.KEEP_LAST)
EVERY_IMAGE_INPUT = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, history=HistoryPolicy.KEEP_LAST)
# A reliable publisher suits both kinds of subscriber (rviz asks for reliable); depth 2 bounds what a slow one holds.
IMAGE_OUTPUT = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE, history=HistoryPolicy.KEEP_LAST)
RESULT = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, history=HistoryPolicy.KEEP_LAST)
LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
    history=HistoryPolicy.KEEP_LAST,
)

# Parameters qos_overrides.<topic>.<publisher|subscription>.<policy>, as for any well-behaved ROS 2 node.
_OVERRIDABLE = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY)
OVERRIDES = QoSOverridingOptions(policy_kinds=_OVERRIDABLE)
OVERRIDES_BUT_RELIABILITY = QoSOverridingOptions(
    policy_kinds=tuple(kind for kind in _OVERRIDABLE if kind != QoSPolicyKind.RELIABILITY)
)


def follow(publishers: Sequence[ReliabilityPolicy], default: ReliabilityPolicy) -> ReliabilityPolicy:
    """The reliability to subscribe images with: reliable where all publishers offer it, since a large image is many
    datagrams and best effort loses it whole with one of them; best effort, which fits everybody, where one does not."""
    if not publishers:
        return default
    reliable = all(reliability == ReliabilityPolicy.RELIABLE for reliability in publishers)
    return ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
