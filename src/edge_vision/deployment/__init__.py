"""What to start, with which parameters: the decisions behind `ros2 launch` and `edge_vision demo`, without ROS.

    decided = plan({"source": "/dev/video0", "hardware": "auto"})
    for process in decided.processes:
        subprocess.Popen(process.command(executable_directory()), env={**os.environ, **decided.environment})

See docs/launch.md.
"""

from edge_vision.deployment.arguments import ARGUMENTS, Argument, DeploymentError
from edge_vision.deployment.calibration_plan import CALIBRATION_ARGUMENTS, calibration_plan
from edge_vision.deployment.parameter_files import Scalar
from edge_vision.deployment.parts import NODES, Plan
from edge_vision.deployment.plan import plan
from edge_vision.deployment.process import Process, executable_directory

__all__ = [
    "ARGUMENTS",
    "CALIBRATION_ARGUMENTS",
    "NODES",
    "Argument",
    "DeploymentError",
    "Plan",
    "Process",
    "Scalar",
    "calibration_plan",
    "executable_directory",
    "plan",
]
