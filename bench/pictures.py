"""The picture that detectors are measured on."""

import io

import numpy
from PIL import Image


def picture():
    """640 x 480: smooth colours and some noise, so that decoding costs what it costs."""
    random = numpy.random.default_rng(0)
    y, x = numpy.mgrid[0:480, 0:640]
    waves = [127 + 90 * numpy.sin(x / a + y / b) for a, b in ((31, 57), (83, 29), (47, 71))]
    pixels = numpy.stack(waves, axis=-1) + random.normal(0, 8, (480, 640, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(numpy.uint8))


def picture_file():
    """The same as the bytes of a PNG file."""
    file = io.BytesIO()
    picture().save(file, "png")
    return file.getvalue()
