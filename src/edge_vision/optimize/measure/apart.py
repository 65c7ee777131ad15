"""One function in a fresh process: what a runtime leaves behind, threads, memory or a crash, stays there."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from edge_vision.inference.backends import backend
from edge_vision.inference.bundle import Bundle
from edge_vision.inference.errors import BackendError, InferenceError, ModelError
from edge_vision.inference.opening import Choice, readable, require

ALL_THAT_OPEN = ("onnxruntime", "openvino", "litert", "ncnn", "opencv", "tvm")
"""Backends of a CPU, in the order in which they are shown."""


def run_apart(function: str, argument: Any, timeout: float) -> Any:
    """The result of `function` (`module.name`) of an argument that can be pickled, called in a process of its own.

    Raises BackendError: the function's own, or that the process died or took longer than `timeout` seconds.
    """
    code = "from edge_vision.optimize.measure.apart import answer; answer()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, function],
            input=pickle.dumps(argument),
            capture_output=True,
            timeout=timeout,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BackendError(f"no answer within {timeout:.0f} s", "choose another backend") from None
    if done.returncode:
        ended = f"was ended by signal {-done.returncode}" if done.returncode < 0 else f"ended with {done.returncode}"
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        detail = f" ({said[-1].strip()[:200]})" if said else ""
        raise BackendError(f"the process that tried it {ended}{detail}", "choose another backend, or update it")
    good, result = pickle.loads(done.stdout)
    if not good:
        raise BackendError(*result)
    return result


def answer() -> None:
    """The main of that process."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what runtimes print is no answer
    module, _, name = sys.argv[1].rpartition(".")
    try:
        result: tuple[bool, Any] = (True, getattr(import_module(module), name)(pickle.load(sys.stdin.buffer)))
    except InferenceError as error:
        result = (False, (error.problem, error.remedy))
    except Exception as error:  # a runtime's own
        result = (False, (f"{type(error).__name__}: {error}", ""))
    with os.fdopen(answers, "wb") as stream:
        pickle.dump(result, stream)
    os._exit(0)  # the ends of some runtimes hang or crash, when all is said


def choice_of(bundle: Bundle, name: str, device: str = "cpu", threads: int = 1) -> Choice:
    """How a backend runs a bundle: the first file that it reads, in that file's precision.

    Raises BackendError (it cannot be used here), ModelError (it reads none of the files).
    """
    module = require(name)
    variants = readable(bundle, name, module)
    if not variants:
        files = ", ".join(variant.path.name for variant in bundle.variants)
        problem = f"backend {name} reads {', '.join(module.FORMATS)}; the model has {files}"
        raise ModelError(bundle.file, problem, f"`edge_vision convert --to {name}` makes one", "variants")
    return Choice(name, device, variants[0].precision, threads, variants[0])


def usable_backends(bundles: Sequence[Bundle]) -> tuple[str, ...]:
    """The backends that are installed here and read a file of each of these bundles."""
    found = []
    for name in ALL_THAT_OPEN:
        if backend(name).available() is None:
            try:
                for bundle in bundles:
                    choice_of(bundle, name)
            except InferenceError:
                continue
            found.append(name)
    return tuple(found)
