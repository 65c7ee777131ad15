"""Cameras' intrinsics: calibration boards, solving, uncertainty, rectification, and the files that keep the result."""
