"""Clips and images to edit: readers and writers of media, and the LightningDataModules."""

from csd_lab.data.base import EditData
from csd_lab.data.batches import FrameBatches
from csd_lab.data.fit import Fit
from csd_lab.data.geometry import write_mesh, write_points
from csd_lab.data.image import CanvasData, ImageFile, WorldPanorama
from csd_lab.data.media import (
    Media,
    MediaError,
    MediaInfo,
    Photo,
    probe,
    read_image,
    read_media,
    write_image,
    write_video,
)
from csd_lab.data.regions import read_regions
from csd_lab.data.scene import CaptureFolder, SceneData, WorldScene
from csd_lab.data.text import TextScene
from csd_lab.data.video import ClipData, VideoFile, WorldClip
from csd_lab.data.windows import WindowBatches

__all__ = [
    "CanvasData",
    "CaptureFolder",
    "ClipData",
    "EditData",
    "Fit",
    "FrameBatches",
    "ImageFile",
    "Media",
    "MediaError",
    "MediaInfo",
    "Photo",
    "SceneData",
    "TextScene",
    "VideoFile",
    "WindowBatches",
    "WorldClip",
    "WorldPanorama",
    "WorldScene",
    "probe",
    "read_image",
    "read_media",
    "read_regions",
    "write_image",
    "write_mesh",
    "write_points",
    "write_video",
]
