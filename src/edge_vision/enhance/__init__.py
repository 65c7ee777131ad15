"""Make a picture better and never worse: brightness, sharpening, denoising, undistortion of a frame."""
