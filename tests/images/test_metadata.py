"""EXIF, ICC, XMP, resolution and text on their way from one file to another."""

from __future__ import annotations

import contextlib
import io
import re
import struct
import time
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin, TiffImagePlugin

from gdq_cli.images import Metadata, Picture, exif, metadata, read_image, write_image
from gdq_cli.images.formats import FORMATS
from gdq_cli.images.tags import Entry, pack_ifd
from gdq_cli.images.turn import Turn
from gdq_cli.options import Encoding
from tests.helpers.image_samples import (
    exif_block,
    fake_profile,
    odd_profile,
    photo,
    rgb_profile,
    saved,
    tiff_file,
    xmp_packet,
)
from tests.helpers.metadata_samples import Tag, exif_tags, pack_block, rationals, xmp_of_properties

RGB = photo(40, 30)
PREFIXED = b"Exif\0\0" + exif_block(6)
NATIVE = ("png", "jpg", "webp", "tiff")
PILLOW = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tiff": "TIFF"}


def source_file(format: str, **extra: Any) -> bytes:
    """A file with an EXIF orientation, an ICC profile and XMP."""
    options: dict[str, Any] = {"exif": PREFIXED, "icc_profile": rgb_profile()} | extra
    if format == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp_packet().decode())
        options["pnginfo"] = info
    elif format == "TIFF":
        tags = Image.Exif()
        tags.load(PREFIXED)
        tags[700] = xmp_packet()
        options["exif"] = tags
    else:
        options["xmp"] = xmp_packet()
    return saved(Image.fromarray(RGB), format, **options)


def doubled(picture: Picture, format: str, **options: Any) -> tuple[bytes, tuple[str, ...]]:
    """The picture at twice its size, written."""
    stream = io.BytesIO()
    larger = picture.with_pixels(picture.rgb.repeat(2, 0).repeat(2, 1))
    notes = write_image(stream, larger, Encoding(format=format, **options))
    return stream.getvalue(), notes


def xmp_of(image: Image.Image) -> bytes:
    packet = image.info.get("xmp", b"")
    return packet if isinstance(packet, bytes) else b""


@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("source", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_metadata_survives_and_tells_the_truth(source: str, target: str) -> None:
    picture = read_image(io.BytesIO(source_file(source)))
    assert picture.size == (30, 40)
    data, notes = doubled(picture, target)
    image = Image.open(io.BytesIO(data))
    tags = image.getexif()
    assert tags.get(0x0112, 1) == 1
    assert tags[0x010F] == "Camera Makers"
    sub = tags.get_ifd(0x8769)
    assert (sub[0xA002], sub[0xA003]) == (80, 60) == image.size
    assert tags.get_ifd(0x014A) == {}
    assert b"THUMBNAIL-OF-THE-ORIGINAL" not in data
    assert image.info["icc_profile"] == rgb_profile()
    packet = xmp_of(image)
    assert b'tiff:Orientation="1"' in packet
    assert b'exif:PixelXDimension="80"' in packet
    assert b"<exif:PixelYDimension>60<" in packet
    assert b"BASE64PIXELS" not in packet
    assert "Titel ä".encode() in packet
    assert notes == picture.warnings == ()
    again = read_image(io.BytesIO(data))
    assert again.size == (60, 80)


def test_the_profile_is_the_same_bytes_after_a_walk_through_formats() -> None:
    profile = rgb_profile()
    data = saved(Image.fromarray(RGB), "JPEG", icc_profile=profile)
    for format in ("png", "webp", "tiff", "jpg", "png"):
        stream = io.BytesIO()
        write_image(stream, read_image(io.BytesIO(data)), Encoding(format=format))
        data = stream.getvalue()
        assert Image.open(io.BytesIO(data)).info["icc_profile"] == profile


def test_a_large_profile_is_split_over_jpeg_segments() -> None:
    profile = rgb_profile()[:132] + np.random.default_rng(0).bytes(150_000)
    stream = io.BytesIO()
    write_image(stream, Picture(RGB, metadata=Metadata(icc=profile)), Encoding(format="jpg"))
    assert Image.open(stream).info["icc_profile"] == profile


@pytest.mark.parametrize("target", [*NATIVE, "bmp", "ppm"])
def test_strip_metadata_drops_everything(target: str) -> None:
    picture = read_image(io.BytesIO(source_file("PNG", dpi=(300, 300))))
    data, notes = doubled(picture, target, strip_metadata=True)
    image = Image.open(io.BytesIO(data))
    assert not image.getexif().get_ifd(0x8769)
    assert not {"icc_profile", "exif", "xmp"} & set(image.info)
    assert image.info.get("dpi", (1, 1))[0] < 100
    assert b"Camera" not in data
    assert notes == ()


P3 = struct.pack(">8L", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


@pytest.mark.parametrize(
    ("shown", "target", "name"),
    [
        *((Metadata(icc=odd_profile()), target, "colour profile") for target in NATIVE),
        (Metadata(cicp=bytes((12, 13, 0, 1))), "png", "colour tag"),
        (Metadata(cicp=bytes((12, 13, 0, 1)), icc=odd_profile()), "png", "colour profile, colour tag"),
        (Metadata(png_chunks=((b"cHRM", P3), (b"gAMA", struct.pack(">L", 45455)))), "png", "colour tag"),
        (Metadata(dpi=(300.0, 150.0)), "tiff", "resolution"),
        (Metadata(aspect=(4.0, 3.0)), "jpg", "resolution"),
    ],
)
def test_strip_metadata_keeps_what_the_look_depends_on(shown: Metadata, target: str, name: str) -> None:
    secret = replace(shown, exif=exif_block(6), xmp=xmp_packet(), comments=(b"Camera",))
    secret = replace(secret, png_chunks=(*shown.png_chunks, (b"tEXt", b"Author\0Camera")))
    data, notes = doubled(Picture(RGB, metadata=secret), target, strip_metadata=True)
    assert notes == (f"kept, as the picture would look different without: {name}",)
    alone = doubled(Picture(RGB, metadata=shown), target)[0]
    assert data == alone
    assert b"Camera" not in data


@pytest.mark.parametrize(
    "metadata",
    [
        Metadata(icc=rgb_profile()),
        Metadata(icc=rgb_profile(), png_chunks=((b"gAMA", struct.pack(">L", 100000)),)),  # the profile counts more
        Metadata(cicp=bytes((1, 13, 0, 1))),
        Metadata(png_chunks=((b"gAMA", struct.pack(">L", 45455)), (b"sRGB", b"\0"))),
        Metadata(dpi=(300.0, 300.0)),
    ],
)
def test_strip_metadata_leaves_out_what_changes_nothing(metadata: Metadata) -> None:
    data, notes = doubled(Picture(RGB, metadata=metadata), "png", strip_metadata=True)
    assert (data, notes) == (doubled(Picture(RGB), "png")[0], ())


@pytest.mark.parametrize("target", NATIVE)
def test_strip_metadata_keeps_what_cameras_say_of_adobe_rgb(target: str) -> None:
    block = Image.Exif()
    block[0x010F], block[0x0112] = "AcmeCam", 6
    block.get_ifd(0x8769).update({0xA001: 0xFFFF, 0x9003: "2020:01:02 03:04:05", 0xA005: {1: "R03", 2: b"0100"}})
    picture = read_image(jpeg(block.tobytes()[6:]))
    data, notes = doubled(picture, target, strip_metadata=True)
    assert notes == ("kept, as the picture would look different without: colour tag",)
    left = Image.open(io.BytesIO(data)).getexif()
    assert (left.get_ifd(0x8769)[0xA001], dict(left.get_ifd(0xA005))) == (0xFFFF, {1: "R03"})
    assert b"Acme" not in data
    assert b"2020" not in data
    assert (
        metadata.colours_of(picture.metadata) == metadata.colours_of(read_image(io.BytesIO(data)).metadata) is not None
    )
    told = replace(picture, metadata=replace(picture.metadata, icc=rgb_profile()))  # which counts more
    assert doubled(told, target, strip_metadata=True)[1] == ()


def test_colours_that_a_stripped_output_cannot_keep_are_said() -> None:
    _, notes = doubled(Picture(RGB, metadata=Metadata(icc=odd_profile())), "bmp", strip_metadata=True)
    assert notes == ("bmp holds no ICC; left out",)


@pytest.mark.parametrize(("target", "words"), [("bmp", "bmp holds no EXIF, ICC, XMP"), ("ppm", "ppm holds no EXIF")])
def test_what_a_format_cannot_hold_is_said(target: str, words: str) -> None:
    _, notes = doubled(read_image(io.BytesIO(source_file("JPEG"))), target)
    assert any(words in note for note in notes)


@pytest.mark.parametrize("source", ["PNG", "JPEG", "TIFF", "BMP"])
@pytest.mark.parametrize("target", ["png", "jpg", "tiff", "bmp"])
def test_resolution_is_kept(source: str, target: str) -> None:
    picture = read_image(io.BytesIO(saved(Image.fromarray(RGB), source, dpi=(300, 150))))
    data, _ = doubled(picture, target)
    x, y = Image.open(io.BytesIO(data)).info["dpi"]
    assert abs(x - 300) < 0.1
    assert abs(y - 150) < 0.1


@pytest.mark.parametrize("dpi", [(0, 0), (float("nan"), 72), (1e9, 1e9), None, "72", (72,)])
def test_nonsense_resolutions_are_left_out(dpi: object) -> None:
    assert metadata._sound_density(dpi) is None


@pytest.mark.parametrize("target", ["png", "jpg", "tiff", "bmp"])
@pytest.mark.parametrize("tags", [{}, {282: (5, 1, rationals((300, 1)))}, {283: (5, 1, rationals((300, 1)))}])
@pytest.mark.parametrize("source", ["jpg", "tiff"])
def test_no_resolution_is_invented(source: str, tags: dict[int, Tag], target: str) -> None:
    if source == "jpg":
        stream = jpeg(pack_block({0x010F: MAKE, **tags}, SUB, GPS))
    else:
        image = Image.fromarray(RGB)
        page = TiffImagePlugin.ImageFileDirectory_v2()
        page.update(dict.fromkeys(tags, 300.0))
        stream = io.BytesIO(saved(image, "TIFF", tiffinfo=page))
    picture = read_image(stream)
    assert (picture.metadata.dpi, picture.metadata.aspect) == (None, None)
    data, notes = doubled(picture, target)
    again = read_image(io.BytesIO(data)).metadata
    assert (again.dpi, again.aspect) == (None, None)
    assert not any("square" in note for note in notes)


@pytest.mark.parametrize(
    ("unit", "dpi"),
    [({}, (204, 98)), ({0x0128: (3, 1, b"\2\0")}, (204, 98)), ({0x0128: (3, 1, b"\3\0")}, (518.16, 248.92))],
)
def test_the_resolution_of_a_jpeg_may_stand_in_its_exif(unit: dict[int, Tag], dpi: tuple[float, float]) -> None:
    first = {0x011A: (5, 1, rationals((204, 1))), 0x011B: (5, 1, rationals((980, 10))), **unit}
    assert read_image(jpeg(pack_block(first, SUB, GPS))).metadata.dpi == pytest.approx(dpi)


def test_png_text_and_colour_chunks_go_from_png_to_png() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a castle, steps: 20, seed: 7")
    info.add_itxt("Title", "Schloß 城", zip=True)
    info.add(b"gAMA", struct.pack(">L", 100000))
    info.add(b"sRGB", b"\1")
    picture = read_image(io.BytesIO(saved(Image.fromarray(RGB), "PNG", pnginfo=info)))
    data, notes = doubled(picture, "png")
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.text == {"parameters": "a castle, steps: 20, seed: 7", "Title": "Schloß 城"}  # type: ignore[attr-defined]
    assert image.info["gamma"] == 1.0
    assert image.info["srgb"] == 1
    assert notes == ()


def test_texts_that_repeat_exif_go_where_there_is_exif() -> None:
    texts = ((b"tEXt", b"exif:PixelXDimension\x0030"), (b"tEXt", b"Comment\0exif:"), (b"zTXt", b"exif:Make\0\0x"))
    for block, kept in ((exif_block(6), texts[1:2]), (None, texts)):
        data, _ = doubled(Picture(RGB, metadata=Metadata(exif=block, png_chunks=texts)), "png")
        assert read_image(io.BytesIO(data)).metadata.png_chunks == kept


def test_losing_an_unusual_gamma_is_said() -> None:
    for gamma, said in [(100000, True), (45455, False)]:
        info = PngImagePlugin.PngInfo()
        info.add(b"gAMA", struct.pack(">L", gamma))
        picture = read_image(io.BytesIO(saved(Image.fromarray(RGB), "PNG", pnginfo=info)))
        assert any("gAMA" in note for note in doubled(picture, "jpg")[1]) == said


def test_losing_the_brightness_of_an_hdr_picture_is_said() -> None:
    picture = Picture(RGB, metadata=Metadata(png_chunks=((b"cLLI", bytes(8)),)))
    assert doubled(picture, "png")[1] == ()
    assert doubled(picture, "jpg")[1] == ("jpg holds no brightness of an HDR picture (mDCV, cLLI); left out",)


def segment(marker: bytes, payload: bytes) -> bytes:
    return marker + struct.pack(">H", 2 + len(payload)) + payload


@pytest.mark.parametrize("comments", [(b"hello",), (b"first", b"second", b"first"), (b"x" * 65_533, "Größe".encode())])
def test_comments_of_jpeg_are_kept(comments: tuple[bytes, ...]) -> None:
    data = saved(Image.fromarray(RGB), "JPEG")
    data = data[:20] + b"".join(segment(b"\xff\xfe", comment) for comment in comments) + data[20:]
    data, notes = doubled(read_image(io.BytesIO(data)), "jpg")
    found: Any = Image.open(io.BytesIO(data))
    assert tuple(payload for name, payload in found.applist if name == "COM") == comments
    assert notes == ()


def test_a_comment_too_large_for_jpeg_is_left_out_and_said() -> None:
    picture = Picture(RGB, metadata=Metadata(comments=(b"x" * 65_534, b"short")))
    data, notes = doubled(picture, "jpg")
    assert read_image(io.BytesIO(data)).metadata.comments == (b"short",)
    assert notes == ("a comment is larger than jpg can hold; it is left out",)


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_is_edited_in_place(order: str) -> None:
    block = exif_block(8, order=order)
    edited = exif.rewrite(block, Turn((30, 40), 8, (70_000, 123_456)))
    thumbnail = block.index(b"\xff\xd8THUMB")
    changed = [at for at in range(min(len(edited), len(block))) if edited[at] != block[at]]
    assert len(edited) < thumbnail
    assert block.index(b"MakerNote") == edited.index(b"MakerNote")
    assert len(changed) < 40
    tags = Image.Exif()
    tags.load(b"Exif\0\0" + edited)
    assert tags[0x0112] == 1
    assert tags.get_ifd(0x8769)[0xA002] == 123_456
    assert tags.get_ifd(0x8769)[0xA003] == 70_000
    assert tags.get_ifd(0x927C) is not None
    assert tags._info is not None
    assert tags._info.next == 0


def test_a_thumbnail_in_the_middle_is_blanked() -> None:
    block = exif_block(1) + b"something that follows"
    edited = exif.rewrite(block, Turn((5, 5), 1, (10, 10)))
    assert b"THUMBNAIL" not in edited
    assert edited.endswith(b"something that follows")
    assert len(edited) == len(block)


@given(st.binary(max_size=200), st.integers(0, 2**32 - 1))
def test_damaged_exif_raises_only_value_errors(noise: bytes, seed: int) -> None:
    rng = np.random.default_rng(seed)
    block = bytearray(exif_block(6))
    for _ in range(int(rng.integers(1, 10))):
        block[rng.integers(0, len(block))] = rng.integers(0, 256)
    for data in (bytes(block), bytes(block[: rng.integers(0, len(block))]), b"II*\0\x08\0\0\0" + noise):
        for call in (exif.read_orientation, lambda data: exif.rewrite(data, Turn((5, 4), 6, (8, 10))), exif.entries_of):
            with contextlib.suppress(ValueError):
                call(data)


def test_a_directory_that_lies_over_the_end_of_another_is_no_crash() -> None:
    """What the one loses moves the number of the other's entries, which becomes 0."""
    coded = struct.pack("<HHL", 0x9102, 3, 1)
    over = struct.pack("<HHHHHL", 1, 0x9102, 3, 1, 0, 7)  # its head are the last value and the link of the one before
    pointers = struct.pack("<HHLL", 0x8769, 4, 1, 38) + struct.pack("<HHLL", 0x8825, 4, 1, 60)
    block = b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + pointers + bytes(4)
    block += struct.pack("<H", 2) + struct.pack("<HHLL", 0x9000, 3, 1, 5) + coded + over + bytes(4)
    assert block[60:62] == b"\1\0"
    assert exif.rewrite(block, Turn((5, 5), 1, (10, 10)))[:8] == block[:8]


def test_one_focal_resolution_alone_takes_the_factor_of_its_own_side() -> None:
    for tag, factor in ((0xA20E, 3), (0xA20F, 2)):
        tags = [Entry(0x8769, 4, 1, b"", (Entry(tag, 5, 1, struct.pack("<LL", 100, 1)),))]
        block = b"II*\0\x08\0\0\0" + pack_ifd(tags, "<", 8)
        edited = exif.rewrite(block, Turn((5, 5), 1, (10, 15)))
        assert edited[-8:] == struct.pack("<LL", 100 * factor, 1)


@pytest.mark.parametrize("target", ["jpg", "tiff"])
def test_directories_within_each_other_cost_no_time(target: str) -> None:
    """Each of 2000 pointers of a directory leads to this directory, or to one of as many entries a little behind."""
    for distance in (0, 2):
        pointers = b"".join(struct.pack("<HHLL", 0x8769, 4, 1, 8 + distance * n) for n in range(2000))
        block = b"II*\0\x08\0\0\0" + struct.pack("<H", 2000) + pointers + bytes(4) + struct.pack("<H", 2000) * 12_000
        start = time.perf_counter()
        doubled(Picture(RGB, metadata=Metadata(exif=block)), target)
        assert time.perf_counter() - start < 5


@pytest.mark.parametrize("source", ["PNG", "JPEG", "WEBP"])
def test_damaged_exif_is_left_out_and_said(source: str) -> None:
    data = saved(Image.fromarray(RGB), source, exif=b"Exif\0\0II*\0\xff\xff\xff\x00 nonsense")
    picture = read_image(io.BytesIO(data))
    assert picture.metadata.exif is None
    assert "the EXIF block is damaged; it is left out" in picture.warnings


XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"


def packed_png(*texts: tuple[str, bytes], zip: bool = False, **options: Any) -> io.BytesIO:
    """A PNG with blocks as hexadecimal text, as ImageMagick and ExifTool write it."""
    info = PngImagePlugin.PngInfo()
    for kind, block in texts:
        lines = "\n".join(block.hex()[at : at + 72] for at in range(0, 2 * len(block), 72))
        info.add_text(f"Raw profile type {kind}", f"\n{kind}\n{len(block):8}\n{lines}\n", zip=zip)
    return io.BytesIO(saved(Image.fromarray(RGB), "PNG", pnginfo=info, **options))


@pytest.mark.parametrize("zip", [False, True])
@pytest.mark.parametrize(
    ("kind", "head", "block"),
    [
        ("exif", b"Exif\0\0", exif_block(6)),
        ("exif", b"", exif_block(6)),
        ("APP1", b"Exif\0\0", exif_block(6)),
        ("APP1", XMP_HEAD, xmp_packet(6)),
        ("xmp", b"", xmp_packet(6)),
        ("icc", b"", rgb_profile()),
        ("icm", b"", rgb_profile()),
        ("iptc", b"", b"\x1c\x02\x78\x00\x07Caption"),
    ],
)
def test_blocks_packed_as_text_are_heeded(kind: str, head: bytes, block: bytes, zip: bool) -> None:
    picture = read_image(packed_png((kind, head + block), zip=zip))
    found = picture.metadata
    assert [value for value in (found.exif, found.xmp, found.icc, found.iptc) if value] == [block]
    assert picture.size == ((30, 40) if block in (exif_block(6), xmp_packet(6)) else (40, 30))
    assert picture.warnings == ()
    data, _ = doubled(picture, "png")
    assert kind == "iptc" or b"Raw profile" not in data
    assert read_image(io.BytesIO(data)).size == (2 * picture.size[0], 2 * picture.size[1])


def test_several_blocks_packed_as_text() -> None:
    texts = [("APP1", XMP_HEAD + xmp_packet(1)), ("APP1", PREFIXED), ("icc", rgb_profile())]
    picture = read_image(packed_png(*texts, ("iptc", b"\x1c\x02\x78\x00\x07Caption")))
    found = picture.metadata
    assert (found.exif, found.xmp, found.icc) == (exif_block(6), xmp_packet(1), rgb_profile())
    assert found.iptc is not None
    assert picture.size == (30, 40)


def test_a_chunk_of_its_own_counts_more_than_text() -> None:
    native = {"exif": PREFIXED, "icc_profile": rgb_profile()}
    texts = [("APP1", b"Exif\0\0" + exif_block(3)), ("exif", exif_block(3)), ("icc", fake_profile(b"GRAY"))]
    found = read_image(packed_png(*texts, **native)).metadata
    assert (found.exif, found.icc) == (exif_block(6), rgb_profile())


@pytest.mark.parametrize("kind", ["exif", "APP1", "xmp", "icc", "iptc", "8bim"])
def test_damaged_text_is_left_out_and_said(kind: str) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text(f"Raw profile type {kind}", f"\n{kind}\n       4\nnonsense\n")
    picture = read_image(io.BytesIO(saved(Image.fromarray(RGB), "PNG", pnginfo=info)))
    assert picture.warnings == (f"the text 'Raw profile type {kind}' is damaged or of an unknown kind; it is left out",)


def test_unknown_blocks_packed_as_text_stay_as_they_are() -> None:
    data, notes = doubled(read_image(packed_png(("jumb", b"1234"))), "png")
    assert b"Raw profile type jumb\0\njumb\n       4\n31323334" in data
    assert notes == ()
    picture = read_image(packed_png(("APP1", b"http://ns.adobe.com/xmp/extension/\0...")))
    assert picture.warnings == ("the text 'Raw profile type APP1' is damaged or of an unknown kind; it is left out",)


def test_blocks_too_large_for_jpeg_are_left_out_and_said() -> None:
    block = exif_block(1) + bytes(70_000)
    picture = Picture(RGB, metadata=Metadata(exif=block, xmp=xmp_packet().replace(b"Titel", b"x" * 70_000)))
    data, notes = doubled(picture, "jpg")
    assert [re.sub(r" block.*", "", note) for note in notes] == ["the EXIF", "the XMP"]
    assert not {"exif", "xmp"} & set(Image.open(io.BytesIO(data)).info)
    assert doubled(picture, "png")[1] == ()


@pytest.mark.parametrize("space", [b"CMYK", b"Lab ", b"GRAY"])
def test_a_profile_of_another_colour_space_never_goes_with_rgb(space: bytes) -> None:
    picture = read_image(io.BytesIO(saved(Image.fromarray(RGB), "JPEG", icc_profile=fake_profile(space))))
    data, notes = doubled(picture, "jpg")
    assert "icc_profile" not in Image.open(io.BytesIO(data)).info
    assert any("colour profile" in line for line in (*picture.warnings, *notes))


def test_xmp_that_is_not_utf8_is_left_out_and_said() -> None:
    picture = read_image(io.BytesIO(saved(Image.fromarray(RGB), "JPEG", xmp=b"\xff\xfe<\0x\0")))
    assert picture.metadata.xmp is None
    assert "the XMP packet is not UTF-8; it is left out" in picture.warnings


def test_gps_and_interoperability_survive_in_tiff() -> None:
    tags = Image.Exif()
    tags[0x010F] = "Maker"
    tags[0x8825] = {1: "N", 2: (50.0, 3.0, 59.0)}
    tags[0x8769] = {0x9003: "2024:05:06 07:08:09"}
    data = saved(Image.fromarray(RGB), "JPEG", exif=tags)
    for format in ("tiff", "png", "tiff"):
        data, _ = doubled(read_image(io.BytesIO(data)), format)
        found = Image.open(io.BytesIO(data)).getexif()
        assert found.get_ifd(0x8825)[1] == "N"
        assert tuple(map(float, found.get_ifd(0x8825)[2])) == (50.0, 3.0, 59.0)
        assert found.get_ifd(0x8769)[0x9003] == "2024:05:06 07:08:09"


def test_layout_tags_of_a_tiff_do_not_leak_into_exif() -> None:
    fields = {256: (3, (4,)), 257: (3, (4,)), 258: (3, (8,)), 259: (3, (1,)), 262: (3, (1,)), 278: (3, (4,))}
    picture = read_image(io.BytesIO(tiff_file(fields, bytes(range(16)))))
    assert picture.metadata.exif is None


def tiff_page(tags: dict[int, Any], kinds: dict[int, int] | None = None) -> io.BytesIO:
    """A TIFF of RGB with these tags, besides those that it needs."""
    page = TiffImagePlugin.ImageFileDirectory_v2()
    page.tagtype.update(kinds or {})
    page.update(tags)
    return io.BytesIO(saved(Image.fromarray(RGB), "TIFF", tiffinfo=page))


def test_tags_of_tiff_that_tell_of_the_picture_are_kept() -> None:
    tags = {269: "scan-07", 270: "A castle, 1920", 285: "page i", 305: "Editor", 306: "2020:01:02 03:04:05"}
    for format in NATIVE:
        picture = read_image(tiff_page(tags))
        data, notes = doubled(picture, format)
        found = Image.open(io.BytesIO(data)).getexif()
        assert {tag: found.get(tag) for tag in tags} == tags
        assert notes == picture.warnings == ()


@pytest.mark.parametrize(
    ("tags", "kinds", "titles"),
    [
        ({33550: (1.0, 1.0, 0.0), 33922: (0.0,) * 6, 34735: (1, 1, 0, 0)}, {33550: 12, 33922: 12, 34735: 3}, "GeoTIFF"),
        ({42113: "0", 34737: "WGS 84|"}, {42113: 2, 34737: 2}, "GeoTIFF, GDAL"),
        ({37724: b"Adobe Photoshop Document Data Block"}, {37724: 7}, "Photoshop layers"),
        ({65000: 7, 301: (0,) * 256}, {65000: 3, 301: 3}, "TransferFunction, 65000"),
    ],
)
def test_tags_of_tiff_that_are_left_out_are_said(tags: dict[int, Any], kinds: dict[int, int], titles: str) -> None:
    picture = read_image(tiff_page({269: "scan", **tags}, kinds))
    assert picture.warnings == (f"tags that are left out: {titles}",)
    found = Image.open(io.BytesIO(doubled(picture, "tiff")[0])).getexif()
    assert found[269] == "scan"
    assert not set(tags) & set(found)


@pytest.mark.parametrize(
    ("description", "kept"),
    [
        ('{"shape": [30, 40, 3]}', False),
        ('{"shape": [3, 30, 40]}', False),
        ("shape=(30,40,3)", False),
        ('<OME><Image><Pixels SizeC="3" SizeX="40" SizeY="30"/></Image></OME>', False),
        ("ImageJ=1.53\nunit=micron\n", False),
        ("Aperio Image Library\n40x30 (256x256) JPEG", False),
        ("40 x 30", False),
        ("a castle, 1930 to 1940", True),
        ("140x30 to 40x301", True),
        ("made with ImageJ=1.5", True),
    ],
)
def test_a_description_that_states_sizes_is_left_out_and_said(description: str, kept: bool) -> None:
    picture = read_image(tiff_page({270: description, 305: "Editor"}))
    found = Image.open(io.BytesIO(doubled(picture, "tiff")[0])).getexif()
    assert (found.get(270), found[305]) == (description if kept else None, "Editor")
    said = "the description states sizes that an upscaled picture does not have; it is left out"
    assert picture.warnings == (() if kept else (said,))


# What is true of the small picture only, and what is odd

GPS = {1: (2, 2, b"N\0"), 2: (5, 3, rationals((48, 1), (51, 1), (30, 1)))}
MAKE = (2, 8, b"AcmeCam\0")
SUB = {0x9003: (2, 20, b"2020:01:02 03:04:05\0")}


def jpeg(block: bytes | None = None, **options: Any) -> io.BytesIO:
    """A JPEG of 30 x 40 pixels, as stored."""
    extra = {} if block is None else {"exif": b"Exif\0\0" + block}
    return io.BytesIO(saved(Image.fromarray(RGB), "JPEG", **extra, **options))


@pytest.mark.parametrize(
    "orientation",
    [
        (1, 1, b"\6"),
        (2, 2, b"6\0"),
        (3, 1, b"\6\0"),
        (4, 1, b"\6\0\0\0"),
        (5, 1, rationals((12, 2))),
        (7, 1, b"\6"),
        (8, 1, b"\6\0"),
        (9, 1, b"\6\0\0\0"),
        (11, 1, struct.pack("<f", 6)),
    ],
    ids=lambda tag: str(tag[0]),
)
def test_an_orientation_of_any_type_is_applied(orientation: tuple[int, int, bytes]) -> None:
    block = pack_block({0x010F: MAKE, 0x0112: orientation}, SUB, GPS)
    picture = read_image(jpeg(block))
    assert (picture.size, picture.warnings) == ((30, 40), ())
    tags = Image.open(io.BytesIO(doubled(picture, "jpg")[0])).getexif()
    assert (tags[0x010F], tags[0x0112], tags.get_ifd(0x8825)[1]) == ("AcmeCam", 1, "N")


@pytest.mark.parametrize(
    "orientation", [(3, 1, b"\x63\0"), (2, 3, b"up\0"), (5, 1, rationals((6, 0))), (12, 1, bytes(8))]
)
def test_an_orientation_without_a_meaning_costs_nothing_else(orientation: tuple[int, int, bytes]) -> None:
    picture = read_image(jpeg(pack_block({0x010F: MAKE, 0x0112: orientation}, SUB, GPS)))
    assert picture.size == (40, 30)
    assert Image.open(io.BytesIO(doubled(picture, "jpg")[0])).getexif()[0x010F] == "AcmeCam"


@pytest.mark.parametrize(
    "value", [(1, 1, b"\x28"), (3, 1, b"\x28\0"), (9, 1, b"\x28\0\0\0"), (5, 1, rationals((40, 1)))]
)
def test_a_size_of_any_type_becomes_that_of_the_output(value: tuple[int, int, bytes]) -> None:
    picture = read_image(jpeg(pack_block({0x010F: MAKE}, {0xA002: value, **SUB}, GPS)))
    tags = Image.open(io.BytesIO(doubled(picture, "jpg")[0])).getexif()
    assert tags.get_ifd(0x8769)[0xA002] == 60
    assert tags[0x010F] == "AcmeCam"


def test_the_size_beside_the_interoperability_index_becomes_that_of_the_output() -> None:
    block = Image.Exif()
    block.get_ifd(0x8769)[0xA005] = {1: "R98", 0x1001: 30, 0x1002: 40}
    picture = read_image(jpeg(block.tobytes()[6:]))
    related = Image.open(io.BytesIO(doubled(picture, "jpg")[0])).getexif().get_ifd(0xA005)
    assert (related[1], related[0x1001], related[0x1002]) == ("R98", 60, 80)


def test_a_lone_resolution_of_the_focal_plane_is_scaled() -> None:
    picture = read_image(jpeg(pack_block({}, {0xA20E: (5, 1, rationals((711, 10))), **SUB}, GPS)))
    assert Image.open(io.BytesIO(doubled(picture, "jpg")[0])).getexif().get_ifd(0x8769)[0xA20E] == 142.2


def test_how_the_samples_of_the_small_file_were_coded_goes() -> None:
    """Photoshop and scanners write it, into EXIF and XMP; what was CMYK or 16 bits is no longer."""
    coding = {
        258: (3, 4, struct.pack("<4H", 8, 8, 8, 8)),
        259: (3, 1, b"\5\0"),
        262: (3, 1, b"\5\0"),
        277: (3, 1, b"\4\0"),
    }
    block = pack_block({0x010F: MAKE, **coding}, {0x9102: (5, 1, rationals((4, 1))), **SUB}, GPS)
    names = {"tiff": "http://ns.adobe.com/tiff/1.0/", "ps": "http://ns.adobe.com/photoshop/1.0/"}
    packet = xmp_of_properties(
        names, 'tiff:SamplesPerPixel="4" tiff:Make="AcmeCam" ps:ColorMode="4" ps:ICCProfile="SWOP" ps:City="Ulm"'
    )
    picture = read_image(jpeg(block, xmp=packet))
    file = Image.open(io.BytesIO(doubled(picture, "jpg")[0]))
    before, after = exif_tags(block), exif_tags(file.info["exif"][6:])
    assert after == {tag: value for tag, value in before.items() if tag not in (*coding, 0x9102)}
    left = xmp_of(file)
    assert b"AcmeCam" in left
    assert b"Ulm" in left
    for gone in (b"SamplesPerPixel", b"ColorMode", b"SWOP"):
        assert gone not in left
    lone = exif.rewrite(pack_block({258: coding[258]}, SUB, GPS), Turn((40, 30), 1, (80, 60)))
    assert exif_tags(lone)[0x9003] == SUB[0x9003][2]


@pytest.mark.parametrize("stale", [0, 1, 2])
def test_a_stale_thumbnail_pointer_erases_nothing(stale: int) -> None:
    block = pack_block({0x010F: MAKE}, SUB, GPS, stale)
    before, after = exif_tags(block), exif_tags(exif.rewrite(block, Turn((40, 30), 1, (80, 60))))
    assert after == before


@pytest.mark.parametrize(
    ("orientation", "area", "focal"),
    [(1, (20, 10, 8, 4), (142, 71)), (6, (80 - 10, 20, 4, 8), (71, 142)), (3, (60 - 20, 80 - 10, 8, 4), (142, 71))],
)
def test_places_in_pixels_move_with_them(orientation: int, area: tuple[int, ...], focal: tuple[int, int]) -> None:
    nested = {
        0x9214: (3, 4, struct.pack("<4H", 10, 5, 4, 2)),
        0xA214: (3, 2, struct.pack("<2H", 10, 5)),
        0xA20E: (5, 1, rationals((711, 10))),
        0xA20F: (5, 1, rationals((355, 10))),
    }
    first = {0x0112: (3, 1, struct.pack("<H", orientation))}
    first |= {0x011A: (5, 1, rationals((300, 1))), 0x011B: (5, 1, rationals((150, 1)))}
    picture = read_image(jpeg(pack_block(first, nested, GPS)))
    data, _ = doubled(picture, "jpg")
    tags = Image.open(io.BytesIO(data)).getexif()
    sub = tags.get_ifd(0x8769)
    assert (sub[0x9214], sub[0xA214]) == (area, area[:2])
    assert (int(sub[0xA20E]), int(sub[0xA20F])) == focal
    assert (tags[0x011A], tags[0x011B]) == ((300, 150) if orientation < 5 else (150, 300))


def test_a_place_that_its_tag_cannot_hold_is_removed() -> None:
    block = pack_block(
        {0x010F: MAKE}, {0x9214: (3, 2, struct.pack("<2H", 30_000, 9)), **SUB, 0xA404: (5, 1, rationals((7, 2)))}, GPS
    )
    after = exif_tags(exif.rewrite(block, Turn((40, 40_000), 1, (160, 160_000))))
    assert after == {key: value for key, value in exif_tags(block).items() if key != 0x9214}


GONE = {
    "c": "http://ns.google.com/photos/1.0/camera/",
    "box": "http://ns.google.com/photos/1.0/container/",
    "item": "http://ns.google.com/photos/1.0/container/item/",
    "hdrgm": "http://ns.adobe.com/hdr-gain-map/1.0/",
    "n": "http://ns.adobe.com/xmp/note/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "d": "http://ns.google.com/photos/1.0/depthmap/",
    "op": "http://ns.oplus.com/photos/1.0/camera/",
}


@pytest.mark.parametrize("as_elements", [False, True])
@pytest.mark.parametrize("target", NATIVE)
def test_parts_of_a_file_that_are_gone_are_not_told_of(target: str, as_elements: bool) -> None:
    values = {"c:MotionPhoto": "1", "c:MicroVideoOffset": "5024", "hdrgm:Version": "1.0", "n:HasExtendedXMP": "AB" * 16}
    values |= {"dc:title": "kept", "c:SpecialTypeID": "kept-too", "d:Format": "RangeLinear", "op:VideoLength": "4077"}
    attributes = "" if as_elements else " ".join(f'{name}="{value}"' for name, value in values.items())
    elements = "".join(f"<{name}>{value}</{name}>" for name, value in values.items()) if as_elements else ""
    items = '<box:Directory><rdf:Seq><rdf:li><box:Item item:Mime="video/mp4"/></rdf:li></rdf:Seq></box:Directory>'
    picture = read_image(jpeg(xmp=xmp_of_properties(GONE, attributes, elements + items)))
    data, notes = doubled(picture, target)
    packet = xmp_of(Image.open(io.BytesIO(data)))
    assert b"kept" in packet
    assert b"kept-too" in packet
    for name in (
        b"MotionPhoto",
        b"5024",
        b"4077",
        b"hdrgm:Version",
        b"HasExtendedXMP",
        b"box:Directory",
        b"video/mp4",
        b"RangeLin",
    ):
        assert name not in packet
    for part in ("an embedded video", "a gain map", "a depth map", "a second, longer XMP packet", "embedded pictures"):
        assert any(note.startswith(part) for note in notes), part


@pytest.mark.parametrize("target", NATIVE)
def test_white_space_of_xmp_stays_as_it_is(target: str) -> None:
    values = ["line1&#10;line2", "a&#9;b&#xD;&#10;c", " two  spaces ", "&lt;&amp;&quot;&#x27;&gt;", "Gr&#xFC;&#128512;"]
    attributes = " ".join(f'p:A{index}="{value}"' for index, value in enumerate(values))
    elements = "".join(f"<p:E{index}>{value}\n\t</p:E{index}>" for index, value in enumerate(values))
    before = xmp_of_properties({"p": "http://ns.adobe.com/photoshop/1.0/"}, attributes, elements)
    picture = read_image(jpeg(xmp=before))
    after = xmp_of(Image.open(io.BytesIO(doubled(picture, target)[0])))

    def content(packet: bytes) -> list[tuple[str, str | None, dict[str, str]]]:
        return [(element.tag, element.text, element.attrib) for element in ElementTree.fromstring(packet).iter()]

    assert content(after) == content(before)


def test_panoramas_and_regions_keep_their_measure() -> None:
    namespaces = {
        "pano": "http://ns.google.com/photos/1.0/panorama/",
        "mwg": "http://www.metadataworkinggroup.com/schemas/regions/",
        "stDim": "http://ns.adobe.com/xap/1.0/sType/Dimensions#",
        "stArea": "http://ns.adobe.com/xmp/sType/Area#",
        "exif": "http://ns.adobe.com/exif/1.0/",
        "ext": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
        "dji": "http://www.dji.com/drone-dji/1.0/",
        "page": "http://ns.adobe.com/xap/1.0/t/pg/",
    }
    attributes = 'pano:FullPanoWidthPixels="60" pano:CroppedAreaLeftPixels="7" pano:ProjectionType="equirectangular"'
    attributes += ' dji:CalibratedFocalLength="36.5" dji:CalibratedOpticalCenterX="14.5" dji:GimbalYawDegree="-9.5"'
    elements = (
        '<page:MaxPageSize stDim:w="31" stDim:h="41" stDim:unit="Pixels"/>'
        '<page:MaxPageSize stDim:w="8.5" stDim:h="11" stDim:unit="Inches"/>'
        "<pano:CroppedAreaTopPixels>3</pano:CroppedAreaTopPixels>"
        '<mwg:Regions rdf:parseType="Resource"><mwg:AppliedToDimensions stDim:w="30" stDim:h="40" stDim:unit="pixel"/>'
        '<mwg:RegionList><rdf:Bag><rdf:li><mwg:Area stArea:x="0.25" stArea:y="0.5" stArea:w="0.1" stArea:h="0.2" '
        'stArea:unit="normalized"/></rdf:li></rdf:Bag></mwg:RegionList></mwg:Regions>'
        '<ext:RegionBoundary ext:rbUnit="pixel" ext:rbX="3" ext:rbY="4" ext:rbW="5" ext:rbH="6"/>'
        "<exif:SubjectArea><rdf:Seq><rdf:li>10</rdf:li><rdf:li>5</rdf:li></rdf:Seq></exif:SubjectArea>"
        "<exif:FocalPlaneXResolution>711/10</exif:FocalPlaneXResolution>"
    )
    picture = read_image(jpeg(xmp=xmp_of_properties(namespaces, attributes, elements)))
    packet = xmp_of(Image.open(io.BytesIO(doubled(picture, "png")[0]))).decode()
    for text in (
        'pano:FullPanoWidthPixels="120"',
        'pano:CroppedAreaLeftPixels="14"',
        "<pano:CroppedAreaTopPixels>6<",
        'pano:ProjectionType="equirectangular"',
        'stDim:w="60"',
        'stDim:h="80"',
        'stDim:w="62" stDim:h="82" stDim:unit="Pixels"',
        'stDim:w="8.5" stDim:h="11" stDim:unit="Inches"',
        'dji:CalibratedFocalLength="73"',
        'dji:CalibratedOpticalCenterX="29"',
        'dji:GimbalYawDegree="-9.5"',
        'stArea:x="0.25"',
        'stArea:w="0.1"',
        'ext:rbX="6" ext:rbY="8" ext:rbW="10" ext:rbH="12"',
        "<rdf:li>20</rdf:li><rdf:li>10</rdf:li>",
        ">711/5<",
    ):
        assert text in packet, text


@pytest.mark.parametrize("orientation", range(1, 9))
def test_regions_turn_with_the_picture(orientation: int) -> None:
    """A marked pixel stays under its mark, whatever the orientation."""
    pixels = np.zeros((40, 30, 3), np.uint8)
    pixels[8:12, 3:6] = 255
    namespaces = {
        "mwg": "http://www.metadataworkinggroup.com/schemas/regions/",
        "stArea": "http://ns.adobe.com/xmp/sType/Area#",
    }
    area = f'stArea:x="{4.5 / 30}" stArea:y="{10 / 40}" stArea:w="{3 / 30}" stArea:h="{4 / 40}"'
    packet = xmp_of_properties(namespaces, "", f"<mwg:Area {area}/>")
    tags = Image.Exif()
    tags[0x0112] = orientation
    data = saved(Image.fromarray(pixels), "JPEG", quality=100, exif=tags, xmp=packet)
    data, _ = doubled(read_image(io.BytesIO(data)), "png")
    image = Image.open(io.BytesIO(data))
    x, y, w, h = (float(re.search(rf'stArea:{side}="([^"]*)"'.encode(), xmp_of(image))[1]) for side in "xywh")  # type: ignore[index]
    rows, columns = np.nonzero(np.asarray(image.convert("L")) > 128)
    box = ((x - w / 2) * image.width, (y - h / 2) * image.height, (x + w / 2) * image.width, (y + h / 2) * image.height)
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert np.abs(np.subtract(box, found)).max() <= 1


IPTC = b"\x1c\x02\x78\x00\x07Caption\x1c\x02\x19\x00\x03Key"


@pytest.mark.parametrize("target", ["png", "jpg", "tiff"])
@pytest.mark.parametrize("source", ["png", "jpg", "tiff"])
def test_captions_are_kept(source: str, target: str) -> None:
    first, _ = doubled(Picture(RGB, metadata=Metadata(iptc=IPTC)), source)
    picture = read_image(io.BytesIO(first))
    assert picture.metadata.iptc == IPTC
    data, notes = doubled(picture, target)
    assert read_image(io.BytesIO(data)).metadata.iptc == IPTC
    assert notes == ()


@pytest.mark.parametrize("behind", [b"", bytes(3), b"\x1c\x02\x05\x00\x10cut"])
def test_captions_stay_without_a_preview_and_sizes(behind: bytes) -> None:
    width, preview = b"\x1c\x03\x14\0\2\0\x40", b"\x1c\x02\xca\x80\x04\0\0\0\x09thumbnail"
    picture = Picture(RGB, metadata=Metadata(iptc=width + IPTC[:12] + preview + IPTC[12:] + behind))
    data, notes = doubled(picture, "jpg")
    assert read_image(io.BytesIO(data)).metadata.iptc == IPTC + behind
    assert notes == ()


@pytest.mark.parametrize("name", [b"\0\0", b"\3abc", b"\4abcd\0"])
def test_captions_in_other_places(name: bytes) -> None:
    resources = b"8BIM\x04\x03\0\0\0\0\0\2hi8BIM\x04\x04" + name + struct.pack(">L", len(IPTC)) + IPTC + b"8BIM\x04\x25"
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type 8bim", f"\n8bim\n{len(resources):8}\n{resources.hex()}\n")
    assert read_image(io.BytesIO(saved(Image.fromarray(RGB), "PNG", pnginfo=info))).metadata.iptc == IPTC
    fields = {256: (3, (4,)), 257: (3, (4,)), 258: (3, (8,)), 259: (3, (1,)), 262: (3, (1,)), 278: (3, (4,))}
    padded = IPTC.ljust(24, b"\0")
    for order in "<>":  # declared as numbers of 32 bits, swapped or not
        tag = {33723: (4, struct.unpack(f"{order}6L", padded))}
        picture = read_image(io.BytesIO(tiff_file({**fields, **tag}, bytes(range(16)))))
        assert (picture.metadata.iptc, picture.warnings) == (padded, ())


def resource(code: int, data: bytes, name: bytes = b"\0\0") -> bytes:
    return b"8BIM" + code.to_bytes(2, "big") + name + struct.pack(">L", len(data)) + data + bytes(len(data) % 2)


RESOURCES = {
    "copyright flag, URL": ((0x040A, b"\1"), (0x040B, b"http://example.org")),
    "paths": ((0x07D0, b"\0\6" + bytes(24)), (0x07D1, b"\0\6" + bytes(24))),
    "": ((0x03ED, b"\0\x48" + bytes(14)), (0x040A, b"\0"), (0x0425, b"digest")),
}


@pytest.mark.parametrize("place", ["jpg", "jpg in two parts", "tiff", "png"])
@pytest.mark.parametrize("titles", RESOURCES)
def test_resources_of_photoshop_that_are_left_out_are_said(titles: str, place: str) -> None:
    data = b"".join(resource(*one) for one in RESOURCES[titles]) + resource(0x0404, IPTC, b"\3abc")
    if place == "tiff":
        stream = tiff_page({34377: data}, {34377: 1})
    elif place == "png":
        stream = packed_png(("8bim", data))
    else:
        parts = [data] if place == "jpg" else [data[:-9], data[-9:]]
        packed = b"".join(segment(b"\xff\xed", b"Photoshop 3.0\0" + part) for part in parts)
        file = jpeg().getvalue()
        stream = io.BytesIO(file[:20] + packed + file[20:])
    picture = read_image(stream)
    assert picture.metadata.iptc == IPTC
    assert picture.warnings == ((f"Photoshop's resources that are left out: {titles}",) if titles else ())


def test_the_loss_of_captions_is_said() -> None:
    _, notes = doubled(Picture(RGB, metadata=Metadata(iptc=IPTC)), "webp")
    assert notes == ("webp holds no IPTC (captions, keywords); left out",)


@pytest.mark.parametrize("target", ["png", "jpg", "tiff"])
@pytest.mark.parametrize("source", ["png", "jpg", "tiff"])
def test_the_shape_of_pixels_is_kept(source: str, target: str) -> None:
    first, _ = doubled(Picture(RGB, metadata=Metadata(aspect=(2, 1))), source)
    data, notes = doubled(read_image(io.BytesIO(first)), target)
    assert read_image(io.BytesIO(data)).metadata.aspect == (2, 1)
    assert notes == ()


@pytest.mark.parametrize(
    ("target", "said"),
    [("webp", True), ("ppm", True), ("png", False), ("jpg", False), ("tiff", False), ("bmp", False)],
)
@pytest.mark.parametrize("source", ["PNG", "TIFF", "JPEG", "BMP"])
def test_the_loss_of_a_shape_told_in_dots_per_inch_is_said(source: str, target: str, said: bool) -> None:
    for dpi, seen in [((204, 98), True), ((300, 300), False), ((300, 301), False)]:
        _, notes = doubled(read_image(io.BytesIO(saved(Image.fromarray(RGB), source, dpi=dpi))), target)
        assert any("not square" in note for note in notes) == (said and seen)


@pytest.mark.skipif("avif" not in FORMATS, reason="this Pillow reads no AVIF")
def test_the_shape_of_pixels_of_an_avif_is_read() -> None:
    data = saved(Image.fromarray(RGB), "AVIF")
    assert read_image(io.BytesIO(data)).metadata.aspect is None
    shape = struct.pack(">L4sLL", 16, b"pasp", 2, 1)  # of pixels twice as wide as high, and what else there may be
    odd = data + shape + struct.pack(">L4s", 16, b"clap") + bytes(8)
    picture = read_image(io.BytesIO(odd[:12] + b"tmap" + odd[16:]))
    assert picture.metadata.aspect == (1, 2)
    assert picture.warnings == (
        "a gain map in the file is left out",
        "the crop that the file tells of (clap) is not applied",
    )


def test_the_shape_of_pixels_turns_with_them_and_its_loss_is_said() -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    picture = read_image(jpeg(tags.tobytes()[6:], dpi=(200, 100)))
    assert read_image(io.BytesIO(doubled(picture, "jpg")[0])).metadata.dpi == (100, 200)
    _, notes = doubled(Picture(RGB, metadata=Metadata(aspect=(2, 1))), "webp")
    assert any("not square" in note for note in notes)
