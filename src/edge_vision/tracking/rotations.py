"""Rotations as unit quaternions (x, y, z, w), as ROS has them: Hamilton's product, `rotate(q, v)` takes a vector of the
child frame into the parent frame of an orientation q.

Plain tuples of floats: a handful of numbers at a time, a few hundred times a second, for which NumPy takes ten times
as long.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Quaternion = tuple[float, float, float, float]
Vector = tuple[float, float, float]

IDENTITY: Quaternion = (0.0, 0.0, 0.0, 1.0)


def multiply(a: Quaternion, b: Quaternion) -> Quaternion:
    """a b: first b, then a."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def inverse(q: Quaternion) -> Quaternion:
    return -q[0], -q[1], -q[2], q[3]


def normalised(q: Quaternion) -> Quaternion:
    """q at length one. ValueError where it has none: all zeros stand for an orientation that is not known."""
    x, y, z, w = q
    norm = math.sqrt(x * x + y * y + z * z + w * w)
    if not 1e-6 < norm < math.inf:  # NaN fails the comparison
        raise ValueError(f"the quaternion {q} is no orientation: its length must be 1")
    return x / norm, y / norm, z / norm, w / norm


def rotate(q: Quaternion, v: Vector) -> Vector:
    """The vector v turned by q."""
    x, y, z, _ = multiply(multiply(q, (*v, 0.0)), inverse(q))
    return x, y, z


def turn(rate: Vector, seconds: float) -> Quaternion:
    """exp(rate x seconds): the rotation at a constant angular velocity (3,) rad/s, in the turning frame."""
    wx, wy, wz = rate
    angle = math.sqrt(wx * wx + wy * wy + wz * wz) * seconds
    # sin(angle / 2) / |rate|, whose limit at rest is seconds / 2
    factor = 0.5 * seconds if abs(angle) < 1e-9 else math.sin(0.5 * angle) * seconds / angle
    return wx * factor, wy * factor, wz * factor, math.cos(0.5 * angle)


def rotation_vector(q: Quaternion) -> Vector:
    """log(q): axis times angle (rad, at most pi)."""
    x, y, z, w = q if q[3] >= 0 else (-q[0], -q[1], -q[2], -q[3])
    sine = math.sqrt(x * x + y * y + z * z)
    factor = 2.0 if sine < 1e-9 else 2.0 * math.atan2(sine, w) / sine
    return x * factor, y * factor, z * factor


def slerp(a: Quaternion, b: Quaternion, share: float) -> Quaternion:
    """Between a (share 0) and b (1) the short way at a constant rate (Shoemake 1985); beyond 1 it goes on so."""
    return multiply(a, turn(rotation_vector(multiply(inverse(a), b)), share))


def matrix(q: Quaternion) -> NDArray[np.float64]:
    """(3, 3): `matrix(q) @ v` is `rotate(q, v)`."""
    x, y, z, w = q
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def from_matrix(m: NDArray) -> Quaternion:
    """The quaternion of a rotation matrix (3, 3). ValueError where it is none."""
    m = np.asarray(m, np.float64)
    if m.shape != (3, 3) or not np.allclose(m @ m.T, np.eye(3), atol=1e-3) or np.linalg.det(m) < 0:
        raise ValueError("not a rotation matrix: R R^T must be the identity and det R = 1")
    # Of the four formulas that divide by one component each, the one with the largest (Shepperd 1978).
    squares = 1 + np.array([[1, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, 1]]) @ np.diag(m)
    largest = int(np.argmax(squares))
    skew = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]
    if largest == 3:
        q = np.array([*skew, squares[3]])
    else:
        q = np.array([*(m + m.T)[largest], skew[largest]])
        q[largest] = squares[largest]
    x, y, z, w = (q / np.linalg.norm(q)).tolist()
    return x, y, z, w


def from_rpy(roll: float, pitch: float, yaw: float) -> Quaternion:
    """Rotations about the fixed axes x, y, z in this order, rad: `rpy` of a URDF, `--roll --pitch --yaw` of
    static_transform_publisher."""
    about_x = math.sin(roll / 2), 0.0, 0.0, math.cos(roll / 2)
    about_y = 0.0, math.sin(pitch / 2), 0.0, math.cos(pitch / 2)
    about_z = 0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)
    return multiply(about_z, multiply(about_y, about_x))
