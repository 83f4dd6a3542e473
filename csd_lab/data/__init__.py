"""Clips to edit: readers and writers of media, and the LightningDataModules around them."""

from csd_lab.data.batches import FrameBatches
from csd_lab.data.fit import Fit
from csd_lab.data.media import (
    Media,
    MediaError,
    MediaInfo,
    probe,
    read_media,
    write_image,
    write_video,
)
from csd_lab.data.video import EditData, VideoFile, WorldClip

__all__ = [
    "EditData",
    "Fit",
    "FrameBatches",
    "Media",
    "MediaError",
    "MediaInfo",
    "VideoFile",
    "WorldClip",
    "probe",
    "read_media",
    "write_image",
    "write_video",
]
