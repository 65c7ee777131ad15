"""`Session`: a camera's calibration while its frames come in, without a screen.

Frames are looked at by whoever brings them; a worker thread solves, judges, finds the next view and writes the archive.
What one thread reads of another's is immutable and replaced as a whole, so that nothing waits for a solve.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edge_vision.calibration import session_files
from edge_vision.calibration.archive import Sample
from edge_vision.calibration.boards import Board
from edge_vision.calibration.report_data import as_record
from edge_vision.calibration.result import Calibration, CalibrationError
from edge_vision.calibration.sample_store import SampleStore
from edge_vision.calibration.sampling import Selection
from edge_vision.calibration.session_looking import KEPT, Look, Looker
from edge_vision.calibration.session_state import (
    Guidance,
    SessionOptions,
    Solution,
    final_solution,
    first_guidance,
    guidance_from,
    guided,
    next_fields,
    provisional,
    sample_fields,
    solution_fields,
)
from edge_vision.calibration.steps import solve_from_scratch, solve_quickly
from edge_vision.calibration.views import Rejected, View
from edge_vision.datatypes import CalibrationStatus, CameraInfo, Frame, Outcome

__all__ = ["Session", "SessionOptions"]

_FEWEST = 4
"""views before the first solution"""
_MILESTONES = (6, 12, 24, 48)
"""views at which the lens model is chosen anew while collecting"""
_POOR = 1.0
"""px RMS above which a solution that went on from the last is made anew, and the board's description is doubted"""
_CLOSED = Outcome(False, "the session is closed: start the node anew")


@dataclass(eq=False)
class _Request:
    """A final solution that somebody waits for."""

    ends: bool
    """and the session is done with it"""
    done: threading.Event = field(default_factory=threading.Event)
    outcome: Outcome = _CLOSED


class Session:
    """Collects views of a board, and calibrates. Any thread may call any method; `look` one at a time.

    board: what is looked for. on_done: called without arguments by the worker when the session has ended by itself at
    the verdict asked for (not after `calibrate`). End it with `close`.
    """

    def __init__(
        self, board: Board, options: SessionOptions | None = None, *, on_done: Callable[[], object] | None = None
    ) -> None:
        self.board = board
        self.options = options or SessionOptions()
        self._on_done = on_done
        self._store = SampleStore(self.options.archive, self.options.camera_name, board)
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._requests: deque[_Request] = deque()
        self._closing = False
        self._epoch = 0  # of samples: `reset` begins a new one, and what was made of the old is dropped
        self._state = "idle"
        self._committed = False
        self._message = "not started"
        self._fit_problem = ""
        self._begin()
        self._worker = threading.Thread(target=self._work, name="calibration", daemon=True)
        self._worker.start()

    def _begin(self) -> None:
        self._looker = Looker(self.board, self.options)
        self._newest: Look | None = None
        self._kept: Frame | None = None  # the frame that was kept last
        self._samples: tuple[Sample, ...] = ()
        self._selection: Selection | None = None
        self._guidance: Guidance | None = None
        self._solution: Solution | None = None
        self._handled = -1  # how many samples the worker's newest solution has seen
        self._chosen = 0  # how many when the lens model was chosen
        self._attempt = 0  # with how many the final solution is tried next
        self._fit_problem = ""

    # Looking

    def look(self, frame: Frame) -> str:
        """Detects the board in a frame and keeps the view where it adds enough; what became of it, in two words.

        Nothing that a frame may be raises: of another size, blurred, no image, … is told and counted (`rejected`).
        """
        with self._lock:
            if self._state != "collecting":
                self._newest = Look(frame, "")
                return "not collecting"
            epoch, looker, selection, guidance = self._epoch, self._looker, self._selection, self._guidance
        looked = looker.look(frame, selection, guidance)
        if selection is None or not selection.views:
            self._prepare(frame, epoch)
        with self._lock:
            if epoch != self._epoch:
                return looked.looked
            if self._state != "collecting":  # it was ended while this frame was looked at
                self._newest = Look(frame, "")
                return "not collecting"
            self._newest = looked
            kept = looked.looked == KEPT
            if kept:
                self._keep(looked, f"view {len(self._samples) + 1} kept: {looked.message}")
            elif looked.message:
                self._message = looked.message
            if looker.doubted is not None:
                self._wake.notify_all()
        if kept:
            self._catch_up()
        return looked.looked

    def _prepare(self, frame: Frame, epoch: int) -> None:
        """Guidance before the first view: it needs the image's size alone."""
        size = (frame.width, frame.height) if frame.image.ndim >= 2 else (0, 0)
        with self._lock:
            known = self._selection is not None and (self._selection.views or self._selection.image_size == size)
        if known or min(size) < 16:
            return
        selection = Selection(self.board, size)
        guidance = first_guidance(self.board, size, self.options.model, [])
        with self._lock:
            if epoch == self._epoch and not self._samples:
                self._selection, self._guidance, self._handled = selection, guidance, -1
                self._wake.notify_all()

    def _keep(self, looked: Look, message: str) -> None:
        """Under the lock."""
        assert looked.view is not None
        number = 1 + max((int(s.view.name) for s in self._samples if s.view.name.isdecimal()), default=0)
        view = replace(looked.view, name=f"{number:04d}")
        self._add([Sample(view, looked.frame.image)])
        self._kept = looked.frame
        self._message = message

    def _add(self, samples: list[Sample]) -> None:
        """Under the lock."""
        for sample in samples:
            self._store.add(sample)
        self._samples += tuple(samples)
        self._selection = Selection(self.board, samples[0].view.image_size, [sample.view for sample in self._samples])
        self._wake.notify_all()

    def _catch_up(self) -> None:
        """Brings the guidance to the samples that it does not know of yet."""
        while True:
            with self._lock:
                guidance, samples = self._guidance, self._samples
            if not samples or (guidance is not None and guidance.count >= len(samples)):
                return
            if guidance is None or guidance.knowledge.camera.image_size != samples[0].view.image_size:
                size = samples[0].view.image_size
                more = first_guidance(self.board, size, self.options.model, [sample.view for sample in samples])
            else:
                more = guidance.added(samples[guidance.count].view)
            with self._lock:
                if self._guidance is guidance:
                    self._guidance = more

    # Commands

    def start(self) -> Outcome:
        """Looks at frames from now on; with samples from before, goes on with them."""
        with self._lock:
            if self._closing:
                return _CLOSED
            if self._state == "solving":
                return Outcome(False, "the final solution is being made: wait for it")
            if self._state == "collecting":
                return Outcome(True, "already collecting")
            count = len(self._samples)
            if count >= self.options.most_views:
                return Outcome(
                    False, f"{count} views are kept, the most that are asked for: reset, or raise most_views"
                )
            if self._solution is not None and self._solution.final:
                self._attempt = count + 3  # else it would end at once, as good as it is
            self._state = "collecting"
            self._message = f"collecting, with {count} views from before" if count else "collecting: show the board"
            self._wake.notify_all()
            return Outcome(True, self._message)

    def stop(self) -> Outcome:
        """Frames are not looked at any more; samples and solution stay."""
        with self._lock:
            if self._state == "collecting":
                self._state, self._message = "idle", f"stopped with {len(self._samples)} views"
                return Outcome(True, self._message)
            return Outcome(True, "not collecting")

    def add_view(self) -> Outcome:
        """Keeps the view of the newest frame whatever it adds."""
        with self._lock:
            epoch, newest, samples, looker = self._epoch, self._newest, self._samples, self._looker
            busy = self._state == "solving"
        if newest is None:
            return Outcome(False, "no frame came yet: is the camera on, and its topic the right one?")
        if busy:
            return Outcome(False, "the final solution is being made: wait for it")
        size = (newest.frame.width, newest.frame.height)
        if samples and size != samples[0].view.image_size:
            width, height = samples[0].view.image_size
            return Outcome(False, f"the frame is {size[0]}x{size[1]}, the samples are {width}x{height}: reset first")
        found: View | Rejected = newest.view or looker.detect(newest.frame)
        if isinstance(found, Rejected):
            return Outcome(False, found.reason)
        with self._lock:
            if epoch != self._epoch:
                return Outcome(False, "the session was reset meanwhile")
            if self._kept is newest.frame:
                return Outcome(True, f"that view is kept already, as view {len(self._samples)}")
            self._keep(replace(newest, view=found), f"view {len(self._samples) + 1} kept as asked")
            outcome = Outcome(True, self._message)
        self._catch_up()
        return outcome

    def calibrate(self) -> Outcome:
        """The final solution now, from the samples alone (the same ones give the same numbers); waits for it.

        Afterwards the session is done. Where it fails, what there was stays.
        """
        return self._ask(ends=True)

    def reset(self) -> Outcome:
        """Forgets samples and solution. What is in the archive stays there; a new run gets a folder of its own."""
        with self._lock:
            count = len(self._samples)
            self._epoch += 1
            self._store.new_run()
            self._begin()
            self._committed = False
            if self._state != "collecting":
                self._state = "idle"
            self._message = f"reset: {count} views forgotten"
            self._wake.notify_all()
            return Outcome(True, self._message)

    def save(self, folder: str = "") -> Outcome:
        """Samples, calibration files and report into a folder (default: the archive's of this run)."""
        with self._lock:
            samples = self._samples
        if not samples:
            return self._tell(Outcome(False, "nothing to save: no view is kept"))
        self._store.write()
        target = folder or self._store.folder
        if not target:
            problem = self._store.problem or "no archive is kept"
            return self._tell(Outcome(False, f"{problem}: name a folder to save to"))
        solved = self._ask(ends=False)
        with self._lock:
            solution, guidance = self._solution, self._guidance
        given = session_files.Results(
            self.board,
            self.options.camera_name,
            samples,
            solution if solution is not None and solution.final else None,
            guidance.next if guidance is not None else None,
            sum(self._looker.counts.values()) + len(samples),
            "" if solved.success else solved.message,
        )
        return self._tell(session_files.save(target, given, self._store.folder))

    def load(self, folder: str = "") -> Outcome:
        """Adds the samples of an archive (the newest in a folder of several), or the views in a folder of images."""
        target = folder or self.options.archive
        if not target:
            return self._tell(Outcome(False, "name the folder of an archive or of images"))
        with self._lock:
            epoch, samples = self._epoch, self._samples
        found = session_files.load(target, self.board, samples)
        if isinstance(found, Outcome):
            return self._tell(found)
        with self._lock:
            if epoch != self._epoch or samples != self._samples:
                return Outcome(False, "samples came or went meanwhile: stop, and load again")
            if found.samples:
                self._add(list(found.samples))
            self._message = found.message
        self._catch_up()
        return Outcome(True, found.message)

    def mark_committed(self, committed: bool) -> None:
        """Whether the camera has the newest solution; a newer one has not been committed."""
        with self._lock:
            self._committed = committed

    def close(self) -> None:
        """Ends the worker; what can be written of the samples is. Waits a second for a solve at most."""
        with self._lock:
            self._closing = True
            waiting = list(self._requests)
            self._requests.clear()
            self._wake.notify_all()
        for request in waiting:
            request.done.set()
        if threading.current_thread() is not self._worker:
            self._worker.join(1.0)
        self._store.write()

    # What is known

    @property
    def calibration(self) -> Calibration | None:
        """The newest solution."""
        solution = self._solution
        return solution.calibration if solution is not None else None

    @property
    def camera_info(self) -> CameraInfo | None:
        calibration, newest = self.calibration, self._newest
        if calibration is None:
            return None
        return calibration.camera_info(self.options.camera_name, newest.frame.frame_id if newest is not None else "")

    @property
    def record(self) -> dict[str, Any]:
        """How good the newest solution is, as its file keeps it (`report_data.as_record`); {} where there is none."""
        solution = self._solution
        return {} if solution is None else as_record(solution.assessment, solution.verdict)

    @property
    def rejected(self) -> dict[str, int]:
        """How many frames were not kept, by what was told of them."""
        return dict(self._looker.counts)

    def status(self, stamp: int = 0) -> CalibrationStatus:
        """As it is now; stamp: ns, 0: of the newest frame."""
        with self._lock:
            newest, selection, solution, guidance = self._newest, self._selection, self._solution, self._guidance
            state, message, committed = self._state, self._message, self._committed
            notes = [note for note in (self._fit_problem, self._store.problem) if note]
        looked = newest is not None and state == "collecting"
        view = newest.view if newest is not None and looked else None
        return CalibrationStatus(
            state=state,
            message="; ".join([message, *notes]),
            board=str(self.board),
            seen=view is not None,
            looked=newest.looked if newest is not None and looked else "",
            corners=view.pixels.astype(np.float32) if view is not None else np.zeros((0, 2), np.float32),
            committed=committed,
            archive=self._store.folder,
            stamp=stamp or (newest.frame.stamp if newest is not None else 0),
            frame_id=newest.frame.frame_id if newest is not None else "",
            **sample_fields(selection),
            **solution_fields(solution),
            **next_fields(guidance),
        )

    # The worker

    def _work(self) -> None:
        while True:
            with self._wake:
                while (job := self._job()) is None:
                    self._wake.wait()
            if job == self._end:
                return
            try:
                job()
            except Exception as error:  # a bug, but the session goes on: samples are worth more than a solution
                with self._lock:
                    if self._state == "solving":
                        self._state = "idle"
                    self._message = f"{type(error).__name__} while calibrating: {error}; samples are kept: save them"

    def _job(self) -> Callable[[], None] | None:
        """What to do next, under the lock."""
        if self._closing:
            return self._end
        if self._store.waits:
            return self._write
        if self._requests:
            return self._answer
        if self._selection is not None and self._handled != len(self._samples):
            return self._update
        if self._looker.doubted is not None:
            return self._explain
        if self._due():
            return self._choose
        return None

    def _end(self) -> None:
        """The job that is none."""

    def _write(self) -> None:
        self._store.write()

    def _explain(self) -> None:
        looker = self._looker
        frame, looker.doubted = looker.doubted, None
        if frame is not None:
            looker.explain(frame)

    def _update(self) -> None:
        """A solution to go on with, the verdict on it, and the next view; the final one where it is time."""
        with self._lock:
            epoch, samples, before, selection = self._epoch, self._samples, self._solution, self._selection
        assert selection is not None
        views = [sample.view for sample in samples]
        solution, guidance = None, None
        if len(views) >= _FEWEST:
            solution, guidance = self._solved(views, before)
        if guidance is None:
            guidance = guided(first_guidance(self.board, selection.image_size, self.options.model, views), views)
        with self._lock:
            if epoch != self._epoch:
                return
            self._handled = len(samples)
            self._guidance = guidance
            if solution is not None:
                self._solution, self._committed = solution, False
                self._fit_problem = _fit_problem(solution, self.board)
            ends = self._is_time(solution, len(self._samples))
        self._catch_up()
        if ends:
            self._finish(automatic=True)

    def _solved(self, views: list[View], before: Solution | None) -> tuple[Solution | None, Guidance | None]:
        lens = self.options.lens
        try:
            start = before.calibration if before is not None else None
            calibration = solve_quickly(views, self.board, lens, start)
            if start is not None and calibration.rms > max(_POOR, 1.5 * start.rms):
                calibration = min(calibration, solve_quickly(views, self.board, lens), key=lambda each: each.noise)
            solution = provisional(calibration, self.board, len(views))
            return solution, guidance_from(calibration, self.board, views)
        except (CalibrationError, np.linalg.LinAlgError) as problem:
            with self._lock:
                self._fit_problem = f"not solved yet: {problem}"
            return None, None

    def _is_time(self, solution: Solution | None, count: int) -> bool:
        """Under the lock."""
        if self._state != "collecting" or solution is None or count < self._attempt:
            return False
        if count >= self.options.most_views:
            return True
        wanted = self.options.wanted
        return wanted is not None and solution.verdict.level >= wanted

    def _due(self) -> bool:
        """Whether the lens model is to be chosen anew: the first solutions take a simple one. Under the lock."""
        if self._state != "collecting" or self._solution is None or self._solution.final:
            return False
        return any(self._chosen < milestone <= len(self._samples) for milestone in _MILESTONES)

    def _choose(self) -> None:
        with self._lock:
            epoch, samples, self._chosen = self._epoch, self._samples, len(self._samples)
        views = [sample.view for sample in samples]
        try:
            calibration, _ = solve_from_scratch(views, self.board, self.options.lens)
            solution = provisional(calibration, self.board, len(views))
            guidance = guidance_from(calibration, self.board, views)
        except (CalibrationError, np.linalg.LinAlgError):
            return  # the simple one stays
        with self._lock:
            if epoch != self._epoch:
                return
            self._solution, self._guidance = solution, guidance
            self._fit_problem = _fit_problem(solution, self.board)
            ends = self._is_time(solution, len(self._samples))
        self._catch_up()
        if ends:
            self._finish(automatic=True)

    def _answer(self) -> None:
        with self._lock:
            request = self._requests.popleft()
        try:
            request.outcome = self._finish(ends=request.ends)
        except Exception as error:
            request.outcome = Outcome(False, f"{type(error).__name__}: {error}")
            raise
        finally:
            request.done.set()

    def _finish(self, *, automatic: bool = False, ends: bool = True) -> Outcome:
        """The final solution, from scratch."""
        with self._lock:
            epoch, samples, before = self._epoch, self._samples, self._state
            same = self._solution is not None and self._solution.final and self._solution.count == len(samples)
            if same and not ends:
                return Outcome(True, self._message)
            if automatic and before != "collecting":
                return Outcome(False, "stopped")
            self._state = "solving"
            self._message = f"{len(samples)} views: making the final solution"
        views = [sample.view for sample in samples]
        try:
            solution = final_solution(views, self.board, self.options.lens)
            guidance = guidance_from(solution.calibration, self.board, views)
        except (CalibrationError, np.linalg.LinAlgError) as problem:
            with self._lock:
                if epoch == self._epoch:
                    self._state, self._message = before, f"not calibrated: {problem}"
                    self._attempt = len(samples) + 2
            return Outcome(False, f"not calibrated: {problem}")
        wanted = self.options.wanted
        reached = wanted is not None and solution.verdict.level >= wanted
        enough = len(samples) >= self.options.most_views
        done = ends and (not automatic or reached or enough)
        with self._lock:
            if epoch != self._epoch:
                return Outcome(False, "the session was reset meanwhile")
            self._solution, self._guidance, self._committed = solution, guidance, False
            self._handled = len(samples)
            self._fit_problem = _fit_problem(solution, self.board)
            self._state = "done" if done else before
            self._message = f"{'' if done else 'not done yet, '}{solution.verdict.text}"
            if enough and automatic and not reached:
                self._message = f"{len(samples)} views are kept, the most asked for, and the verdict is {self._message}"
            if automatic and not done:
                self._attempt = len(samples) + 2
            outcome = Outcome(True, f"{len(solution.calibration.views)} views, {self._message}")
        self._catch_up()
        if automatic and reached and self._on_done is not None:
            self._on_done()
        return outcome

    def _ask(self, *, ends: bool) -> Outcome:
        if threading.current_thread() is self._worker:
            return self._finish(ends=ends)
        request = _Request(ends)
        with self._lock:
            if self._closing:
                return _CLOSED
            self._requests.append(request)
            self._wake.notify_all()
        request.done.wait()
        return request.outcome

    def _tell(self, outcome: Outcome) -> Outcome:
        with self._lock:
            self._message = outcome.message
        return outcome


def _fit_problem(solution: Solution, board: Board) -> str:
    rms = solution.calibration.rms
    if rms <= _POOR * max(1.0, solution.calibration.image_size[0] / 1920):
        return ""
    return (
        f"corners lie {rms:.1f} px from where the best solution puts them: is the board's description right ({board}), "
        "the board flat, the image sharp?"
    )
