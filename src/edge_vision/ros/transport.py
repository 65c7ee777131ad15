"""Typed publishers and subscriptions: an object reference inside a process, a message to everybody else.

Within one process a publisher hands its object to the mailboxes of the subscriptions on the same resolved topic. A
subscription that has a publisher in its own process has no ROS side (it would get everything twice); it gets one as
soon as that publisher goes. A message is built only while somebody outside the process subscribes.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import QoSProfile, ReliabilityPolicy

from edge_vision.datatypes import Frame
from edge_vision.ros import qos
from edge_vision.ros.adapters import Adapter, BadMessage
from edge_vision.ros.audience import create_publisher
from edge_vision.ros.mailbox import Every, Mailbox
from edge_vision.ros.shared_frames import SharedFrameInput, SharedFrameOutput

if TYPE_CHECKING:
    from edge_vision.ros.node import VisionNode

T = TypeVar("T")

# A thread takes about 35 us to wake up. The one that woke it would meanwhile go on and hold the interpreter, for which
# the other must then wait, asleep once more: so it lets go for that long.
_AWAKE_S = 20e-6


class Bus:
    """Who publishes and who subscribes in this process, by resolved topic."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._publishers: dict[str, list[Publisher]] = {}
        self._subscriptions: dict[str, list[Subscription]] = {}
        # When the newest frames were published here, by stamp: latency is measured from there.
        self._births: OrderedDict[int, int] = OrderedDict()

    def add_publisher(self, publisher: Publisher) -> None:
        with self._lock:
            self._publishers.setdefault(publisher.topic, []).append(publisher)
            self._rewire(publisher.topic)

    def remove_publisher(self, publisher: Publisher) -> None:
        with self._lock:
            self._publishers[publisher.topic].remove(publisher)
            self._rewire(publisher.topic)

    def add_subscription(self, subscription: Subscription) -> None:
        with self._lock:
            # Nodes are activated from the last consumer on: who comes later stands earlier in the flow, and is served
            # first.
            self._subscriptions.setdefault(subscription.topic, []).insert(0, subscription)
            self._rewire(subscription.topic)

    def remove_subscription(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions[subscription.topic].remove(subscription)
            self._rewire(subscription.topic)

    def _rewire(self, topic: str) -> None:
        publishers = self._publishers.get(topic, [])
        subscriptions = self._subscriptions.get(topic, [])
        for subscription in subscriptions:
            subscription.listen_to_ros(not publishers or subscription.gathers)
        for publisher in publishers:
            publisher.connect(tuple(s for s in subscriptions if s.datatype is publisher.datatype and not s.gathers))

    def publishes(self, topic: str) -> int:
        """Publishers on the topic in this process."""
        return len(self._publishers.get(topic, ()))

    def born(self, stamp: int, at_ns: int) -> None:
        """A frame with this stamp was published at `at_ns` of `time.perf_counter_ns`.

        The first of them counts: what was made of it (image_rect, image_enhanced) has its stamp, too.
        """
        self._births.setdefault(stamp, at_ns)
        if len(self._births) > 256:
            self._births.popitem(last=False)

    def age_ns(self, stamp: int) -> int | None:
        """Nanoseconds since the frame with this stamp was published in this process; None where it was not."""
        birth = self._births.get(stamp)
        return None if birth is None else time.perf_counter_ns() - birth


class Publisher(Generic[T]):
    """Publishes objects of one datatype on one topic."""

    def __init__(
        self, node: VisionNode, adapter: Adapter[T], topic: str, profile: QoSProfile, bus: Bus, counted: bool = False
    ):
        self._node = node
        self._bus = bus
        self._outgoing = adapter.outgoing()
        self._counted = counted
        self.datatype = adapter.datatype
        self.topic = node.resolve_topic_name(topic)
        self.connect(())
        self._ros, self._audience = create_publisher(
            node,
            adapter.message_type,
            topic,
            copy(profile),  # rclpy writes the overrides of this topic into it
            overrides=qos.OVERRIDES,
            incompatible_qos=self._incompatible,
        )
        self._shared = SharedFrameOutput(node, topic) if adapter.datatype is Frame else None
        # A latched message must reach those who come later, so it is always published.
        self._always = profile.durability == qos.LATCHED.durability
        bus.add_publisher(self)

    def connect(self, local: tuple[Subscription, ...]) -> None:
        """The subscriptions of this process from now on."""
        self.local = local
        self._has_direct = any(subscription.direct for subscription in local)

    def publish(self, item: T) -> None:
        """Hands `item` over inside the process and, where somebody outside listens, publishes it as a message.

        With direct subscriptions both may come only when the node's callback is over, in this order.
        """
        birth = time.perf_counter_ns()
        later = (self._has_direct or self._node.postponing) and self._node.may_run_others()
        direct = later and self._has_direct
        for subscription in self.local:
            if not (direct and subscription.direct):
                subscription.offer(item)
        if self._shared is not None:
            if self.local:
                time.sleep(_AWAKE_S)
            self._bus.born(item.stamp, birth)  # type: ignore[attr-defined]
        if later:
            self._node.postpone(partial(self._follow, item, direct))
        else:
            self._send(item)
        if self._counted:
            self._node.output_rate.tick()

    def _follow(self, item: T, direct: bool) -> None:
        for subscription in self.local if direct else ():
            if subscription.direct:
                subscription.follow(item)
        with self._node.stage("send"):
            self._send(item)

    def _send(self, item: T) -> None:
        """To those outside."""
        if self._always or self._audience.present():
            self._ros.publish(self._outgoing(item))
        if self._shared is not None:
            self._shared.publish(item)  # type: ignore[arg-type]

    @property
    def has_subscribers(self) -> bool:
        """Whether anybody, in this process or outside, would get what is published."""
        if any(subscription.wants() for subscription in self.local) or self._audience.present():
            return True
        return self._shared is not None and self._shared.has_subscribers

    def close(self) -> None:
        self._bus.remove_publisher(self)
        if self._shared is not None:
            self._shared.close()
        self._node.destroy_publisher(self._ros)

    def _incompatible(self, event: Any) -> None:
        def peers() -> list[str]:
            return [p.node_name for p in self._node.get_subscriptions_info_by_topic(self.topic)]

        self._node.warn_incompatible(self.topic, "publishes", "subscribers", peers, event)


class Subscription(Generic[T]):
    """Gets objects of one datatype from one topic into a mailbox of its node."""

    def __init__(
        self,
        node: VisionNode,
        adapter: Adapter[T],
        topic: str,
        profile: QoSProfile,
        mailbox: Mailbox,
        bus: Bus,
        counted: bool,
        needed: Callable[[], bool] | None = None,
        direct: bool = False,
    ):
        self._node = node
        self._bus = bus
        self._adapter = adapter
        self._profile = profile
        self._name = topic
        self.datatype = adapter.datatype
        self.gathers = adapter.gathered
        self.topic = node.resolve_topic_name(topic)
        self.mailbox = mailbox
        self.counted = counted
        self._needed = needed
        self.direct = direct
        self._ros: Any = None
        self._shared: SharedFrameInput | None = None
        self._last_stamp = -1
        self._reliability: ReliabilityPolicy | None = None  # of the ROS subscription, None before the first
        self._pinned = False

    def open(self) -> None:
        """Starts to take what comes; called when the node is activated."""
        self.mailbox.open()
        self._bus.add_subscription(self)

    def wants(self) -> bool:
        """Whether the node has a use for inputs now."""
        return self._needed is None or self._needed()

    def offer(self, item: T) -> None:
        """Called by the publishing thread of this process."""
        if self.wants():  # no thread is woken for what nobody looks at
            self.mailbox.offer(item)
        self._node.received(self, item)

    def follow(self, item: T) -> None:
        """As `offer`, but at once and on the calling thread where the node is free."""
        self._node.received(self, item)
        if self.wants() and not self._node.follow(self.mailbox.callback, item):
            self.mailbox.offer(item)

    # --- the ROS side ------------------------------------------------------------------------------------------------

    def listen_to_ros(self, listen: bool) -> None:
        """Attaches or detaches the ROS subscription (and the shared-memory one beside it)."""
        if listen and self._ros is None:
            self._attach()
            if self._adapter.shareable:
                self._shared = SharedFrameInput(self._node, self._name, self._from_shared)
        elif not listen:
            self._detach()
            if self._shared is not None:
                self._shared.close()
                self._shared = None

    def _attach(self) -> None:
        profile = copy(self._profile)  # as above
        first = self._reliability is None
        wanted = profile.reliability = self._wanted_reliability()
        self._ros = self._node.create_subscription(
            self._adapter.message_type,
            self._name + self._adapter.suffix,
            self._from_message,
            profile,
            # The first time declares the parameter with what was wanted then, which must not bind the later ones.
            qos_overriding_options=qos.OVERRIDES if first or self._pinned else qos.OVERRIDES_BUT_RELIABILITY,
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=self._incompatible, use_default_callbacks=False
            ),
            raw=self._adapter.raw,
        )
        self._pinned = self._pinned or (first and profile.reliability != wanted)  # by the user's qos_overrides
        self._reliability = profile.reliability

    def _wanted_reliability(self) -> ReliabilityPolicy:
        if self.datatype is not Frame or self._pinned:
            return self._profile.reliability
        publishers = self._node.get_publishers_info_by_topic(self.topic + self._adapter.suffix)
        return qos.follow([p.qos_profile.reliability for p in publishers], self._profile.reliability)

    def _detach(self) -> None:
        if self._ros is not None:
            ros, self._ros = self._ros, None
            self._node.destroy_subscription(ros)

    def _from_message(self, message: Any) -> None:
        try:
            item = self._adapter.from_message(message)
        except BadMessage as error:
            self._node.reject(f"{self.topic}: {error}")
            return
        except Exception as error:  # a message that nobody thought of must not end the process
            self._node.reject(f"{self.topic}: a message cannot be read ({type(error).__name__}: {error})")
            return
        if self._shared is not None:
            if self._shared.has_delivered(item.stamp):  # type: ignore[attr-defined]
                return
            self._last_stamp = item.stamp  # type: ignore[attr-defined]
        self._deliver(item)

    def _from_shared(self, frame: Any) -> None:
        # Frames come through shared memory: the copy over DDS would be the same again.
        self._detach()
        if frame.stamp != self._last_stamp:
            self._deliver(frame)

    def _deliver(self, item: T) -> None:
        self._node.received(self, item)
        if not self.wants():
            return
        if isinstance(self.mailbox, Every):
            self.mailbox.offer(item, wait=False)
        else:
            self.mailbox.offer(item)

    def check(self) -> None:
        """Once a second: back to messages when the shared-memory publisher has gone; warns of publishers not heard."""
        if self._shared is not None and self._ros is None and not self._shared.alive():
            self._attach()
        elif self._ros is not None and not self._pinned and self._wanted_reliability() != self._reliability:
            self._detach()
            self._attach()
        local = self._bus.publishes(self.topic)
        if local and not self.gathers and self._node.count_publishers(self.topic) > local:
            self._node.warn_once(
                f"{self.topic} is published in this process and by another one; only the former is used. "
                "Remap the other, or switch this process's own publisher off."
            )

    def close(self) -> None:
        """Stops taking; what waits is dropped."""
        self._bus.remove_subscription(self)
        self.listen_to_ros(False)
        self.mailbox.close()

    def _incompatible(self, event: Any) -> None:
        def peers() -> list[str]:
            return [p.node_name for p in self._node.get_publishers_info_by_topic(self.topic)]

        self._node.warn_incompatible(self.topic, "subscribes", "publishers", peers, event)
