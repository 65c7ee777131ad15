"""Sensor measurement: EMVA 1288 release 4.0 (linear) figures of a camera from dark and bright images."""

from edge_vision.quality.sensor.descriptor import (
    Descriptor,
    ImageSet,
    open_measurement,
    parse_descriptor,
    read_descriptor,
    read_folder,
    write_descriptor,
)
from edge_vision.quality.sensor.errors import SensorDataError
from edge_vision.quality.sensor.measurement import (
    Images,
    SensorOptions,
    SensorReport,
    evaluate,
    measure,
    read_images,
)
from edge_vision.quality.sensor.photon_transfer import PhotonTransfer, photon_transfer, photons
from edge_vision.quality.sensor.protocol import Clause
from edge_vision.quality.sensor.spatial import Nonuniformity, nonuniformity
from edge_vision.quality.sensor.statistics import Stack, Temporal, pair_from_sums, pair_statistics, stack_statistics

__all__ = [
    "Clause",
    "Descriptor",
    "ImageSet",
    "Images",
    "Nonuniformity",
    "PhotonTransfer",
    "SensorDataError",
    "SensorOptions",
    "SensorReport",
    "Stack",
    "Temporal",
    "evaluate",
    "measure",
    "nonuniformity",
    "open_measurement",
    "pair_from_sums",
    "pair_statistics",
    "parse_descriptor",
    "photon_transfer",
    "photons",
    "read_descriptor",
    "read_folder",
    "read_images",
    "stack_statistics",
    "write_descriptor",
]
