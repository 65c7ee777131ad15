"""Scores of detectors and trackers against the truth."""
