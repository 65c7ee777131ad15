"""The base of every node: lifecycle, parameters, mailboxes and their thread, drops, timing, diagnostics.

A node says what it subscribes and publishes in `configure` and what it does with an input in a callback; the rest is
here. Callbacks run one at a time, so a node needs no locks: on the node's own worker thread or, where the subscription
is `direct`, on that of the node of the same process whose result it is.
"""

from __future__ import annotations

import math
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile

from edge_vision.datatypes import NS_PER_S, Frame, NodeStats
from edge_vision.ros import adapters, diagnostics, parameters, qos
from edge_vision.ros.live_parameters import LiveParameterService
from edge_vision.ros.mailbox import EMPTY, Every, Latest
from edge_vision.ros.parameters import NodeParameters
from edge_vision.ros.statistics import Rate, Stage
from edge_vision.ros.transport import Bus, Publisher, Subscription

if TYPE_CHECKING:
    from edge_vision.ros.container import Container

P = TypeVar("P", bound=NodeParameters)
T = TypeVar("T")

_REPEAT_AFTER_S = 10.0  # the same complaint is logged again after this long at the earliest
_PATIENCE = 32  # inputs that wait while a change is prepared
_SILENT_AFTER_S = 3.0  # no input for this long is worth a warning


class Unusable(Exception):
    """What the user asked for cannot be done; the text says why and what to do. Shown without a traceback."""


class VisionNode(LifecycleNode, Generic[P]):
    """See the module; subclasses set `parameters_type` and override the hooks they need."""

    parameters_type: ClassVar[type[NodeParameters]] = NodeParameters
    #: errors of the rooms that say all there is to say to the user
    expected_errors: ClassVar[tuple[type[Exception], ...]] = (Unusable, ValueError, OSError)

    def __init__(self, name: str, container: Container):
        super().__init__(name, start_parameter_services=False)
        self.container = container
        self.bus: Bus = container.bus
        self.active = False
        self.input_rate, self.output_rate = Rate(), Rate()
        self._events: SimpleQueue = SimpleQueue()
        self._worker: threading.Thread | None = None
        self._busy = False
        self._turn = threading.Lock()  # held by the thread that runs a callback: the worker, or another node's
        self._postponed: deque[Callable[[], None]] = deque()
        self._publishers_: list[Publisher] = []
        self._subscriptions_: list[Subscription] = []
        self._stages: dict[str, Stage] = {}
        self._drops = self._rejected = 0
        self._newest_stamp: int | None = None
        self._complaints: dict[str, float] = {}
        self._problem: str | None = None
        self._to_clean = False  # something that `configure` made may be there
        self.parameters: P = self._declare()
        self.add_on_set_parameters_callback(self._on_parameters)
        self._parameter_services = LiveParameterService(self, self, container.call_soon)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._statistics = Publisher(self, adapters.NODE_STATS, "node_stats", qos.RESULT, self.bus)
        self._mismatches: list[tuple[str, str, str, str, Callable[[], list[str]]]] = []
        # By the clock on the wall: a simulated one may stand still, and the node is there all the same.
        self._timer = self.create_timer(1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # --- hooks -------------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        """Create publishers, subscriptions and what the work needs. Raise Unusable (or a room's error) to refuse."""

    def activate(self) -> None:
        """The inputs are about to flow."""

    def deactivate(self) -> None:
        """The inputs have stopped, the worker has ended."""

    def cleanup(self) -> None:
        """Let go of what `configure` made, perhaps in part (publishers and subscriptions go by themselves)."""

    def reconfigure(self, new: P) -> None:
        """Parameters change live: take them over, or raise ValueError to refuse all of them."""

    def prepare(self, new: P) -> Callable[[], None] | None:
        """What takes long of a change to `new`, as a function to be run on a thread of its own before `reconfigure`;
        None where nothing does. The node goes on meanwhile; should the function raise, the change is refused."""
        return None

    def every_second(self) -> None:
        """Called about once a second on the executor's thread while the node is active."""

    def status(self) -> dict[str, str]:
        """What the node adds to its diagnostics."""
        return {}

    def warning(self) -> str | None:
        """What deserves attention now: the node is well, what it sees is not. Shown in the diagnostics as a warning."""
        return None

    # --- what a node uses --------------------------------------------------------------------------------------------

    def publisher(
        self,
        datatype: type[T],
        topic: str,
        *,
        adapter: adapters.Adapter | None = None,
        profile: QoSProfile | None = None,
        counted: bool = True,
    ) -> Publisher[T]:
        """A publisher of `datatype` on a relative topic; call in `configure`.

        counted: whether the topic is the node's output for its rate.
        """
        chosen = adapter or adapters.DEFAULT[datatype]
        publisher = Publisher(
            self, chosen, topic, profile or (qos.IMAGE_OUTPUT if datatype is Frame else qos.RESULT), self.bus, counted
        )
        self._publishers_.append(publisher)
        return publisher

    def subscription(
        self,
        datatype: type[T],
        topic: str,
        callback: Callable[[T], None],
        *,
        adapter: adapters.Adapter | None = None,
        profile: QoSProfile | None = None,
        every: bool | None = None,
        counted: bool = True,
        needed: Callable[[], bool] | None = None,
        direct: bool = False,
    ) -> Subscription[T]:
        """A subscription whose callback runs on the worker thread; call in `configure`.

        every: take each input rather than the newest; by default frames follow `input_mode`, results are all taken.
        counted: whether the topic is the node's input for rates, drops and age.
        needed: while this says no, inputs are counted and let go; asked by the threads that bring them.
        direct: the callback is short, so that a publishing node of this process that has nothing else to do runs it
        itself, on its own thread and before anything is sent out of the process: no thread has to be woken.
        """
        chosen = adapter or adapters.DEFAULT[datatype]
        if every is None:
            every = datatype is not Frame or self.parameters.input_mode == "every"
        if profile is None:
            profile = qos.RESULT if datatype is not Frame else qos.EVERY_IMAGE_INPUT if every else qos.IMAGE_INPUT
        depth = 2 if datatype is Frame else 32  # two: one is worked on, one waits
        mailbox = Every(self._events, callback, depth) if every else Latest(self._events, callback)
        subscription = Subscription(self, chosen, topic, profile, mailbox, self.bus, counted, needed, direct)
        self._subscriptions_.append(subscription)
        return subscription

    def stage(self, name: str) -> Stage:
        """Times a stage of the work: ``with self.stage("track"): ...``"""
        stage = self._stages.get(name)
        if stage is None:
            stage = self._stages[name] = Stage(name)
        return stage

    @property
    def stages(self) -> Mapping[str, Stage]:
        """The stages timed so far, by name."""
        return self._stages

    def reject(self, why: str) -> None:
        """An input cannot be used: counted, logged once (and again when it goes on), nothing else is lost."""
        self._rejected += 1
        self._complain(why, "error")

    def warn_once(self, text: str) -> None:
        self._complain(text, "warning")

    def set_problem(self, text: str | None) -> None:
        """What is wrong for as long as it is: shown in the diagnostics as an error; None when it is over."""
        self._problem = text

    def count_drop(self) -> None:
        self._drops += 1

    def now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    # --- called by the transport -------------------------------------------------------------------------------------

    def received(self, subscription: Subscription, item: Any) -> None:
        if subscription.counted:
            self.input_rate.tick()
            self._newest_stamp = item.stamp

    def may_run_others(self) -> bool:
        """Whether this is the worker thread and no input waits for it."""
        worker = self._worker
        if worker is None or threading.get_ident() != worker.ident:
            return False
        return bool(self._postponed) or self._events.empty()

    def postpone(self, action: Callable[[], None]) -> None:
        """Has the worker do something once it is through with its callback. To be called by the worker only."""
        self._postponed.append(action)

    @property
    def postponing(self) -> bool:
        return bool(self._postponed)

    def follow(self, callback: Callable[[Any], None], item: Any) -> bool:
        """Deals with an input on the calling thread; False where the node is inactive, busy, or has others waiting."""
        if not self._turn.acquire(blocking=False):
            return False
        try:
            if not self.active or not self._at_rest():
                return False
            self._attempt(callback, item)
            return True
        finally:
            self._turn.release()

    def warn_incompatible(
        self, topic: str, verb: str, peer_kind: str, peers: Callable[[], list[str]], event: Any
    ) -> None:
        policy = getattr(event, "last_policy_kind", None)
        mismatch = (topic, verb, peer_kind, getattr(policy, "name", str(policy)), peers)
        # Warned of with the next report: the other end is known by its name a moment later only.
        if mismatch[:4] not in [known[:4] for known in self._mismatches]:
            self._mismatches.append(mismatch)

    def _warn_of_mismatches(self) -> None:
        mismatches, self._mismatches = self._mismatches, []
        for topic, verb, peer_kind, policy, peers in mismatches:
            named = ", ".join(sorted(set(peers()))) or "gone by now"
            self.get_logger().warning(
                f"QoS mismatch on {topic}: {self.get_name()} {verb} it, but not all of its {peer_kind} ({named}) fit "
                f"({policy}). Nothing flows between the two: set qos_overrides.{topic}.* on one of them"
            )

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self) -> bool:
        """Configures the node and activates it; False where that failed (the log says why)."""
        return self.start_configure() and self.start_activate()

    def start_configure(self) -> bool:
        return self.trigger_configure() == TransitionCallbackReturn.SUCCESS

    def start_activate(self) -> bool:
        return self.trigger_activate() == TransitionCallbackReturn.SUCCESS

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._to_clean = True
        if self._guarded("configure", self.configure):
            return TransitionCallbackReturn.SUCCESS
        self._release()
        return TransitionCallbackReturn.FAILURE

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.active = True
        if self._subscriptions_:
            self._worker = threading.Thread(target=self._work, name=self.get_name(), daemon=True)
            self._worker.start()
        if not self._guarded("activate", self.activate):
            self._stop_worker()
            return TransitionCallbackReturn.FAILURE
        for subscription in self._subscriptions_:
            subscription.open()
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop()
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        if self.active:
            self._stop()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.on_shutdown(state)

    def end(self) -> None:
        """The process ends: lets go of everything that `configure` made."""
        self._release()

    def idle(self) -> bool:
        """Nothing waits and nothing is being worked on."""
        return self._at_rest()

    def _at_rest(self) -> bool:
        # In this order: the worker is busy before it takes an item out.
        return not any(len(s.mailbox) for s in self._subscriptions_) and not self._busy

    def _stop(self) -> None:
        for subscription in self._subscriptions_:
            subscription.close()
        self._stop_worker()
        self._guarded("deactivate", self.deactivate)

    def _stop_worker(self) -> None:
        self.active = False
        if self._worker is not None:
            self._events.put(None)
            self._worker.join(timeout=5.0)
            self._worker = None
        if self._turn.acquire(timeout=5.0):  # another node's thread may be in a callback of this one
            self._turn.release()

    def _release(self) -> None:
        """Lets go of what `configure` made, wholly or in part."""
        if self._to_clean:
            self._to_clean = False
            self._guarded("clean up", self.cleanup)
        for publisher in self._publishers_:
            publisher.close()
        self._publishers_.clear()
        self._subscriptions_.clear()

    def _work(self) -> None:
        """The worker thread: one input after the other, in the order of their coming."""
        while True:
            mailbox = self._events.get()
            if mailbox is None:
                return
            self._busy = True  # before the item is taken: at no moment is there work that `idle` does not know of
            item = mailbox.take()
            if item is EMPTY:
                self._busy = False
                continue
            try:
                with self._turn:
                    self._attempt(mailbox.callback, item)
                while self._postponed:
                    self._attempt(self._postponed.popleft())
            finally:
                self._busy = False
                mailbox.done()

    def _attempt(self, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except self.expected_errors as error:
            self.reject(str(error))
        except Exception as error:  # whatever one input does, the node goes on with the next
            self.reject(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")

    def _guarded(self, what: str, hook: Callable[[], None]) -> bool:
        try:
            hook()
        except self.expected_errors as error:
            self.get_logger().error(f"cannot {what}: {error}")
            self._problem = str(error)
            return False
        except Exception as error:
            self.get_logger().error(f"cannot {what}: {type(error).__name__}: {error}\n{traceback.format_exc()}")
            self._problem = str(error)
            return False
        if what in ("configure", "activate"):
            self._problem = None
        return True

    # --- parameters --------------------------------------------------------------------------------------------------

    def _declare(self) -> P:
        kind: Any = self.parameters_type
        try:
            return parameters.declare(self, kind)
        except ValueError as error:
            raise Unusable(f"{self.get_fully_qualified_name()}: parameter {error}") from None

    def preparation(self, updates: Sequence[Parameter]) -> Callable[[], None] | None:
        """For `LiveParameterService`."""
        try:
            new = parameters.changed(self.parameters, list(updates))
            work = self.prepare(new) if new != self.parameters else None
        except Exception:  # refused, with the reason, when it is set
            return None
        return None if work is None else partial(self._patiently, work)

    def _patiently(self, work: Callable[[], None]) -> None:
        """Does long work while inputs may wait in a row: importing a runtime can hold the interpreter, and with it
        every thread, for some frames, which then come all at once."""
        mailboxes = [subscription.mailbox for subscription in self._subscriptions_]
        for mailbox in mailboxes:
            mailbox.hold(_PATIENCE)
        try:
            work()
        finally:
            for mailbox in mailboxes:
                mailbox.release()

    def refusal(self, error: Exception) -> str:
        """What is said of a change that failed; for `LiveParameterService`."""
        if isinstance(error, self.expected_errors):
            return str(error)
        trace = "".join(traceback.format_exception(error))
        self.get_logger().error(f"parameters refused:\n{trace}")
        return f"{type(error).__name__}: {error}"

    def _on_parameters(self, updates: list[Parameter]) -> SetParametersResult:
        try:
            new = parameters.changed(self.parameters, updates)
            if new != self.parameters:
                self.reconfigure(new)
                self.parameters = new
        except Exception as error:
            return SetParametersResult(successful=False, reason=self.refusal(error))
        return SetParametersResult(successful=True)

    # --- once a second -----------------------------------------------------------------------------------------------

    def statistics(self) -> NodeStats:
        """How the node fares now."""
        name = self.get_name()
        latencies = [stage.latency(name) for stage in tuple(self._stages.values())]
        age = math.nan if self._newest_stamp is None else (self.now_ns() - self._newest_stamp) / NS_PER_S
        return NodeStats(
            name,
            self.input_rate.value(),
            self.output_rate.value(),
            self.input_rate.total,
            self.output_rate.total,
            self._drops + sum(s.mailbox.dropped for s in self._subscriptions_ if s.counted),
            self._rejected,
            age,
            tuple(latency for latency in latencies if latency is not None),
            self.now_ns(),
        )

    def _report(self) -> None:
        try:
            self._report_now()
        except Exception as error:  # what is said about the work must not end it
            self._complain(f"{type(error).__name__}: {error}\n{traceback.format_exc()}", "error")

    def _report_now(self) -> None:
        stats = self.statistics()
        message = diagnostics.make(
            self.get_fully_qualified_name(),
            stats,
            self.status(),
            self._problem,
            self._waiting(),
            self.active,
            self.warning() if self.active else None,
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)
        self._statistics.publish(stats)
        self._warn_of_mismatches()
        if self.active:
            for subscription in self._subscriptions_:
                subscription.check()
            self.every_second()

    def _waiting(self) -> bool:
        """Whether an active node has had no input for too long."""
        return (
            self.active
            and any(s.counted for s in self._subscriptions_)
            and self.input_rate.silent_s() > _SILENT_AFTER_S
        )

    def _complain(self, text: str, severity: str) -> None:
        now = time.monotonic()
        if now - self._complaints.get(text, -math.inf) >= _REPEAT_AFTER_S:
            if len(self._complaints) > 64:
                self._complaints.clear()
            self._complaints[text] = now
            # On two lines: rclpy's logger raises where one line logs with another severity than before.
            if severity == "error":
                self.get_logger().error(text)
            else:
                self.get_logger().warning(text)
