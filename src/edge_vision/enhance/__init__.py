"""Make a picture better and never worse: brightness, sharpening, denoising, undistortion of a frame.

enhancer = Enhancer(EnhanceParameters(denoise="off"))
better = enhancer.enhance(frame)
"""

from edge_vision.enhance.exposure import ExposureController, ExposureLimits, Setting
from edge_vision.enhance.pipeline import EnhanceParameters, Enhancer, enhance

__all__ = ["EnhanceParameters", "Enhancer", "ExposureController", "ExposureLimits", "Setting", "enhance"]
