#!/usr/bin/env python3
"""Makes tests/golden/image: small pictures of every form, and what Pillow and
transformers make of them.

The same versions of this script, Pillow, numpy and transformers write the same
bytes: all randomness comes from fixed seeds.

Written:
  pictures/        JPEG, PNG and WebP in every colour form and orientation
  decoded.txt      file, width, height, CRC-32 of the RGB bytes of
                   ImageOps.exif_transpose(Image.open(file)).convert("RGB")
  resized.txt      width, height of a noise picture; width, height to resize to;
                   CRC-32 of the RGB bytes of Image.resize with BILINEAR
  resampled.txt    the same for the other filters, after Pillow's number of the
                   filter
  sizes.txt        shortest and longest edge; height, width of a picture; height,
                   width that get_size_with_aspect_ratio says
  normalized.txt   rescale_factor or -, three means and deviations or -, CRC-32 of
                   the float32 table [3, 256] that rescale and normalize make
"""

import argparse
import io
import pathlib
import random
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps
from transformers.image_transforms import normalize, rescale
from transformers.models.detr.image_processing_detr import get_size_with_aspect_ratio

ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def crc(data: bytes) -> str:
    return f"{zlib.crc32(data):08x}"


def scene(width: int, height: int, channels: int, seed: int = 0) -> np.ndarray:
    """Waves, an edge and a little noise: something for every part of a codec."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    planes = []
    for c in range(channels):
        wave = 110 + 90 * np.sin(x / (5.0 + c) + c) * np.cos(y / (4.0 + 2 * c))
        edge = np.where(x + 2 * y > (c + 1) * width / 2, 45, 0)
        planes.append(wave + edge + generator.integers(-6, 7, (height, width)))
    return np.clip(np.stack(planes, axis=-1), 0, 255).astype(np.uint8)


def tiff(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    """EXIF with a description and an orientation, of TIFF type SHORT or LONG."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entries = struct.pack(order + "HHI4s", 0x010E, 2, 3, b"ab\0\0")
    value = struct.pack(order + ("HH" if kind == 3 else "I"), *((orientation, 0) if kind == 3 else (orientation,)))
    entries += struct.pack(order + "HHI", 0x0112, kind, 1) + value
    return mark + struct.pack(order + "IH", 8, 2) + entries + bytes(4)


def raw_profile(exif: bytes) -> bytes:
    """EXIF as ImageMagick writes it into a text of a PNG."""
    digits = (b"Exif\0\0" + exif).hex()
    lines = [digits[i : i + 72] for i in range(0, len(digits), 72)]
    text = f"\nexif\n{len(digits) // 2:8}\n" + "\n".join(lines) + "\n"
    return b"Raw profile type exif\0" + text.encode()


def encode(picture: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def png(samples: np.ndarray, depth: int, color: int, interlaced: bool = False, before=(), after=()) -> bytes:
    """samples: [height, width, channels] integers below 2 ** depth."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def rows(part: np.ndarray, filters) -> bytes:
        packed = b""
        for row in part:
            flat = row.reshape(-1)
            if depth == 16:
                packed += b"\0" + flat.astype(">u2").tobytes()
            elif depth == 8:
                # Every filter type appears.
                kind = next(filters) if part.shape[2] == 3 else 0
                data = flat.astype(np.uint8)
                if kind == 1:
                    data = data - np.concatenate([np.zeros(3, np.uint8), data[:-3]])
                packed += bytes([kind]) + data.tobytes()
            else:
                bits = "".join(f"{v:0{depth}b}" for v in flat)
                bits += "0" * (-len(bits) % 8)
                packed += b"\0" + bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
        return packed

    height, width, _ = samples.shape
    filters = iter([0, 1] * (16 * height))
    if interlaced:
        parts = [samples[y0::dy, x0::dx] for x0, y0, dx, dy in ADAM7]
        data = b"".join(rows(part, filters) for part in parts if part.size)
    else:
        data = rows(samples, filters)
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, int(interlaced))
    stream = zlib.compress(data, 9)
    half = len(stream) // 2  # two IDAT chunks
    return b"".join(
        [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header)]
        + [chunk(*extra) for extra in before]
        + [chunk(b"IDAT", stream[:half]), chunk(b"IDAT", stream[half:])]
        + [chunk(*extra) for extra in after]
        + [chunk(b"IEND", b"")]
    )


def jpegs() -> dict:
    color = Image.fromarray(scene(37, 23, 3))
    files = {f"jpeg_{name}": encode(color, "JPEG", quality=90, subsampling=s) for name, s in
             [("444", 0), ("422", 1), ("420", 2)]}
    files["jpeg_progressive_420"] = encode(color, "JPEG", quality=80, progressive=True)
    files["jpeg_progressive_444"] = encode(color, "JPEG", quality=85, progressive=True, subsampling=0)
    files["jpeg_restarts"] = encode(color, "JPEG", quality=75, restart_marker_blocks=1)
    files["jpeg_stored_as_rgb"] = encode(color, "JPEG", quality=90, keep_rgb=True)
    files["jpeg_poor"] = encode(color, "JPEG", quality=10)
    files["jpeg_1x1"] = encode(Image.fromarray(scene(1, 1, 3)), "JPEG")
    files["jpeg_grey"] = encode(Image.fromarray(scene(19, 30, 1)[:, :, 0]), "JPEG", quality=90)
    files["jpeg_grey_progressive"] = encode(
        Image.fromarray(scene(33, 9, 1)[:, :, 0]), "JPEG", quality=90, progressive=True)
    cmyk = encode(Image.fromarray(scene(29, 18, 4), "CMYK"), "JPEG", quality=90)
    files["jpeg_cmyk"] = cmyk
    adobe = cmyk.index(b"Adobe")
    ycck = bytearray(cmyk)
    ycck[adobe + 11] = 2  # the transform
    files["jpeg_ycck"] = bytes(ycck)
    length = struct.unpack(">H", cmyk[adobe - 2 : adobe])[0]
    files["jpeg_cmyk_without_adobe"] = cmyk[: adobe - 4] + cmyk[adobe - 2 + length :]
    small = Image.fromarray(scene(11, 7, 3))
    for orientation in range(0, 10):
        order = "<>"[orientation % 2]
        files[f"jpeg_exif{orientation}"] = encode(
            small, "JPEG", quality=90, subsampling=0, exif=b"Exif\0\0" + tiff(orientation, order))
    files["jpeg_exif_long"] = encode(small, "JPEG", quality=90, exif=b"Exif\0\0" + tiff(6, "<", 4))
    files["jpeg_exif_broken"] = encode(small, "JPEG", quality=90, exif=b"Exif\0\0II*\0\xff\xff\0\0")
    return {name + ".jpg": data for name, data in files.items()}


def pngs() -> dict:
    files = {}
    levels = scene(21, 13, 4)
    deep = (levels.astype(np.uint16) << 8) + scene(21, 13, 4, seed=1)
    palette = np.random.default_rng(2).integers(0, 256, (256, 3), dtype=np.uint8)
    for interlaced in (False, True):
        end = "_interlaced" if interlaced else ""
        for depth in (1, 2, 4, 8):
            files[f"png_grey{depth}{end}"] = png(levels[:, :, :1] >> (8 - depth), depth, 0, interlaced)
            entries = palette[: 2**depth]
            files[f"png_palette{depth}{end}"] = png(
                levels[:, :, :1] >> (8 - depth), depth, 3, interlaced, [(b"PLTE", entries.tobytes())])
        for name, channels, color in (("rgb", 3, 2), ("grey_alpha", 2, 4), ("rgba", 4, 6)):
            files[f"png_{name}8{end}"] = png(levels[:, :, :channels], 8, color, interlaced)
            files[f"png_{name}16{end}"] = png(deep[:, :, :channels], 16, color, interlaced)
        files[f"png_grey16{end}"] = png(deep[:, :, :1], 16, 0, interlaced)
    files["png_palette_with_alpha"] = png(
        levels[:, :, :1] >> 4, 4, 3, False, [(b"PLTE", palette[:16].tobytes()), (b"tRNS", bytes(range(0, 160, 10)))])
    files["png_rgb_with_transparent_color"] = png(
        levels[:, :, :3], 8, 2, False, [(b"tRNS", struct.pack(">HHH", *levels[0, 0, :3].tolist()))])
    files["png_grey_with_transparent_level"] = png(levels[:, :, :1] >> 4, 4, 0, False, [(b"tRNS", b"\0\5")])
    files["png_gamma"] = png(levels[:, :, :3], 8, 2, False, [(b"gAMA", struct.pack(">I", 100000))])
    files["png_exif6_before_pixels"] = png(levels[:, :, :3], 8, 2, False, [(b"eXIf", tiff(6, ">"))])
    files["png_exif8_after_pixels"] = png(levels[:, :, :3], 8, 2, False, [], [(b"eXIf", tiff(8))])
    files["png_exif6_in_text"] = png(levels[:, :, :3], 8, 2, False, [(b"tEXt", raw_profile(tiff(6)))])
    packed = raw_profile(tiff(8, ">")).partition(b"\0")
    packed = packed[0] + b"\0\0" + zlib.compress(packed[2])
    files["png_exif8_in_packed_text"] = png(levels[:, :, :3], 8, 2, False, [], [(b"zTXt", packed)])
    files["png_exif3_beside_text"] = png(
        levels[:, :, :3], 8, 2, False, [(b"eXIf", tiff(3)), (b"tEXt", raw_profile(tiff(6)))])
    files["png_1x1"] = png(levels[:1, :1, :3], 8, 2)
    files["png_one_frame_of_animation"] = png(levels[:, :, :3], 8, 2, False, [(b"acTL", struct.pack(">II", 1, 0))])
    files["png_without_end"] = png(levels[:, :, :3], 8, 2)[:-12]
    return {name + ".png": data for name, data in files.items()}


def webps() -> dict:
    color, alpha = Image.fromarray(scene(35, 22, 3)), Image.fromarray(scene(35, 22, 4), "RGBA")
    files = {
        "webp_lossy": encode(color, "WEBP", quality=80),
        "webp_poor": encode(color, "WEBP", quality=5),
        "webp_lossless": encode(color, "WEBP", lossless=True),
        "webp_lossless_palette": encode(Image.fromarray(scene(35, 22, 3) & 0xC0), "WEBP", lossless=True),
        "webp_lossy_alpha": encode(alpha, "WEBP", quality=80),
        "webp_lossless_alpha": encode(alpha, "WEBP", lossless=True, exact=True),
        "webp_lossless_tiles": encode(tiles(), "WEBP", lossless=True, quality=100, method=6),
        "webp_1x1": encode(Image.fromarray(scene(1, 1, 3)), "WEBP", lossless=True),
        "webp_exif6": encode(color, "WEBP", quality=80, exif=b"Exif\0\0" + tiff(6)),
        "webp_exif3_lossless": encode(color, "WEBP", lossless=True, exif=b"Exif\0\0" + tiff(3, ">")),
    }
    for name, corner, canvas in (("lossy_alpha", (0, 0), (35, 22)), ("lossy", (4, 6), (50, 31)),
                                 ("lossless_alpha", (0, 2), (35, 24)), ("exif6", (0, 0), (35, 22))):
        files[f"webp_one_frame_{name}"] = one_frame(files[f"webp_{name}"], corner, canvas)
    return {name + ".webp": data for name, data in files.items()}


def one_frame(still: bytes, corner: tuple, canvas: tuple) -> bytes:
    """An animation of one frame, `still`, which lies at `corner` of a canvas."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    def small(value: int) -> bytes:
        return struct.pack("<I", value)[:3]

    width, height = Image.open(io.BytesIO(still)).size
    frame, exif, at = b"", b"", 12
    while at < len(still):
        kind, size = still[at : at + 4], struct.unpack("<I", still[at + 4 : at + 8])[0]
        data = still[at + 8 : at + 8 + size]
        if kind in (b"ALPH", b"VP8 ", b"VP8L"):
            frame += chunk(kind, data)
        if kind == b"EXIF":
            exif = chunk(kind, data)
        at += 8 + size + size % 2
    place = small(corner[0] // 2) + small(corner[1] // 2) + small(width - 1) + small(height - 1)
    body = chunk(b"VP8X", bytes([0x02 | 0x10 | (0x08 if exif else 0), 0, 0, 0]) + small(canvas[0] - 1)
                 + small(canvas[1] - 1))
    body += chunk(b"ANIM", b"\xff\x80\x40\xff" + struct.pack("<H", 0))
    body += chunk(b"ANMF", place + small(100) + b"\0" + frame) + exif
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def tiles() -> Image.Image:
    """Noise of few levels, greys and waves side by side, so that an encoder of
    lossless pictures gives them Huffman tables of their own."""
    generator = np.random.default_rng(3)
    picture = scene(96, 96, 3, seed=4)
    picture[:48, 48:] = generator.integers(0, 4, (48, 48, 3)) * 80
    picture[48:, :48] = generator.integers(0, 256, (48, 48, 1)) & 0xFE
    picture[48:, 48:] = generator.integers(0, 2, (48, 48, 1)) * 255
    return Image.fromarray(picture)


def decoded(name: str, data: bytes) -> np.ndarray:
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if picture.mode.startswith("I;16"):
        # Pillow's convert clips at 255; ours is the high byte.
        high = (np.array(picture) >> 8).astype(np.uint8)
        return np.repeat(high[:, :, None], 3, axis=2)
    return np.array(picture.convert("RGB"))


def noise(width: int, height: int) -> np.ndarray:
    """The same picture as in tests/image/noise.h."""
    state, values = width * 65536 + height, bytearray()
    for _ in range(width * height * 3):
        state = (state * 1664525 + 1013904223) % 2**32
        values.append(state >> 24)
    return np.frombuffer(bytes(values), np.uint8).reshape(height, width, 3)


RESIZES = [
    # from width, height; to width, height
    (1, 1, 1, 1), (1, 1, 5, 7), (3, 7, 1, 1), (3, 7, 13, 29), (2, 2, 3, 3), (5, 4, 4, 5), (17, 640, 35, 333),
    (641, 427, 300, 200), (641, 427, 1066, 710), (33, 31, 33, 64), (33, 31, 64, 31), (33, 31, 33, 31), (33, 31, 16, 31),
    (100, 50, 99, 49), (100, 50, 101, 51), (64, 64, 128, 128), (128, 128, 64, 64), (255, 3, 7, 90), (3, 255, 90, 7),
    (1000, 2, 1, 1), (2, 1000, 1, 1), (1000, 1, 3, 1), (1, 1000, 1, 3), (427, 241, 331, 187), (512, 9, 19, 512),
    (321, 123, 40, 17), (7, 5, 700, 500), (640, 480, 1066, 800), (100, 300, 60, 200), (100, 300, 50, 200),
]

def resampled() -> list:
    lines = []
    resampling = Image.Resampling
    for resample in (resampling.NEAREST, resampling.LANCZOS, resampling.BICUBIC, resampling.BOX, resampling.HAMMING):
        for width, height, to_width, to_height in RESIZES:
            picture = Image.fromarray(noise(width, height)).resize((to_width, to_height), resample)
            lines.append(
                f"{int(resample)} {width} {height} {to_width} {to_height} {crc(np.array(picture).tobytes())}")
    return lines


SIZES = [
    (480, 640), (640, 480), (800, 1066), (800, 800), (427, 641), (641, 427), (1, 1), (1, 2), (2, 1), (375, 500),
    (500, 375), (333, 500), (640, 360), (360, 640), (1080, 1920), (1920, 1080), (3000, 4000), (4000, 3000), (100, 167),
    (167, 100), (100, 166), (99, 165), (640, 17), (17, 640), (3, 7), (7, 3), (800, 1333), (1333, 800), (800, 1334),
    (801, 1333), (1200, 2000), (1, 1000), (1000, 1), (13, 4096), (612, 612), (799, 801), (1024, 683), (683, 1024),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default="tests/golden/image")
    folder = parser.parse_args().folder
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)

    lines = []
    for name, data in sorted({**jpegs(), **pngs(), **webps()}.items()):
        (pictures / name).write_bytes(data)
        pixels = decoded(name, data)
        lines.append(f"{name} {pixels.shape[1]} {pixels.shape[0]} {crc(pixels.tobytes())}")
    (folder / "decoded.txt").write_text("\n".join(lines) + "\n")

    lines = []
    for width, height, to_width, to_height in RESIZES:
        resized = Image.fromarray(noise(width, height)).resize((to_width, to_height), Image.Resampling.BILINEAR)
        lines.append(f"{width} {height} {to_width} {to_height} {crc(np.array(resized).tobytes())}")
    (folder / "resized.txt").write_text("\n".join(lines) + "\n")
    (folder / "resampled.txt").write_text("\n".join(resampled()) + "\n")

    lines = []
    generator = random.Random(0)
    sizes = SIZES + [(generator.randint(1, 3000), generator.randint(1, 3000)) for _ in range(60)]
    for shortest, longest in ((800, 1333), (128, 192), (256, 256), (480, 640)):
        for height, width in sizes:
            target = get_size_with_aspect_ratio((height, width), shortest, longest)
            lines.append(f"{shortest} {longest} {height} {width} {target[0]} {target[1]}")
    (folder / "sizes.txt").write_text("\n".join(lines) + "\n")

    lines = []
    imagenet = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    for factor, statistics in ((1 / 255, imagenet), (1 / 255, None), (1 / 127.5, ([1.0] * 3, [1.0] * 3)),
                               (None, ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])), (0.00392156862745098, imagenet)):
        table = np.repeat(np.arange(256, dtype=np.uint8)[None, None, :], 3, axis=0)  # [3, 1, 256]
        if factor is not None:
            table = rescale(table, factor)
        if statistics is not None:
            table = normalize(table, *statistics, input_data_format="channels_first")
        means = "-" if statistics is None else ",".join(repr(v) for v in statistics[0])
        deviations = "-" if statistics is None else ",".join(repr(v) for v in statistics[1])
        scale = "-" if factor is None else repr(factor)
        lines.append(f"{scale} {means} {deviations} {crc(table.astype('<f4').tobytes())}")
    (folder / "normalized.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
