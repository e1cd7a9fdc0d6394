"""Pictures in and out: file to ``Picture``, ``Picture`` to file. numpy and Pillow only.

How the parts fit together:

    picture = read_image(Path("in.jpg"))
    sr = network(picture.rgb if picture.alpha is None else bleed_colour(picture.rgb, picture.alpha))
    warnings = write_image(Path("out.png"), picture.with_pixels(sr, alpha=alpha))  # alpha: resampled at sr's size
"""

from gdq_cli.images.formats import (
    FORMATS,
    IMAGE_SUFFIXES,
    WRITABLE,
    check_format_limits,
    default_format,
    find_format,
    format_of_suffix,
    is_image_name,
    suffix_of_format,
)
from gdq_cli.images.picture import Frame, Metadata, Picture
from gdq_cli.images.planes import bleed_colour, flatten, is_grey, luma, to_8bit, upscale_samples16
from gdq_cli.images.reading.compression import Compression, read_compression
from gdq_cli.images.reading.container import ImageHeader
from gdq_cli.images.reading.reader import Frames, probe_image, read_frames, read_image
from gdq_cli.images.writing.sequences import write_frames
from gdq_cli.images.writing.writer import DEFAULT_QUALITY, parse_colour, write_image

__all__ = [
    "DEFAULT_QUALITY",
    "FORMATS",
    "IMAGE_SUFFIXES",
    "WRITABLE",
    "Compression",
    "Frame",
    "Frames",
    "ImageHeader",
    "Metadata",
    "Picture",
    "bleed_colour",
    "check_format_limits",
    "default_format",
    "find_format",
    "flatten",
    "format_of_suffix",
    "is_grey",
    "is_image_name",
    "luma",
    "parse_colour",
    "probe_image",
    "read_compression",
    "read_frames",
    "read_image",
    "suffix_of_format",
    "to_8bit",
    "upscale_samples16",
    "write_frames",
    "write_image",
]
