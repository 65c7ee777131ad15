"""Whether anybody outside the process subscribes a topic, known without asking for every frame.

Asking rclpy takes 2 us, 30 where the caches are cold, and a frame passes a dozen publishers on its way, each of which
keeps the next node waiting meanwhile. So it is asked when the middleware says that a subscription came or went.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rclpy.event_handler import PublisherEventCallbacks, UnsupportedEventTypeError
from rclpy.qos import QoSProfile

if TYPE_CHECKING:
    from rclpy.publisher import Publisher
    from rclpy.qos_overriding_options import QoSOverridingOptions

    from edge_vision.ros.node import VisionNode

# Asked again after this long in any case: the middleware's word comes through the executor, which may be held up.
_TOLD_S = 1.0
_NOT_TOLD_S = 0.1


class Audience:
    """The subscriptions of one rclpy publisher."""

    __slots__ = ("_asked", "_period", "_present", "publisher")

    def __init__(self) -> None:
        self.publisher: Any = None
        self._period = _TOLD_S
        self._asked = -math.inf
        self._present = False

    def present(self) -> bool:
        """Whether there is a subscription."""
        now = time.monotonic()
        if now - self._asked >= self._period:
            self._asked = now  # before the question: what changes after it must be asked again
            self._present = self.publisher.get_subscription_count() > 0
        return self._present

    def changed(self, _event: Any = None) -> None:
        """A subscription has come or gone."""
        self._asked = -math.inf

    def poll(self) -> None:
        """Nobody will tell."""
        self._period = _NOT_TOLD_S


def create_publisher(
    node: VisionNode,
    message_type: type,
    topic: str,
    profile: QoSProfile,
    *,
    overrides: QoSOverridingOptions | None = None,
    incompatible_qos: Callable[[Any], None] | None = None,
) -> tuple[Publisher, Audience]:
    """An rclpy publisher and who listens to it."""
    audience = Audience()

    def create(**more: Any) -> Publisher:
        events = PublisherEventCallbacks(
            incompatible_qos=incompatible_qos, use_default_callbacks=incompatible_qos is None, **more
        )
        return node.create_publisher(
            message_type, topic, profile, qos_overriding_options=overrides, event_callbacks=events
        )

    try:
        audience.publisher = create(matched=audience.changed)
    except UnsupportedEventTypeError:
        audience.poll()
        audience.publisher = create()
    return audience.publisher, audience
