"""XMP packets: what they say of a picture, made true of its upscaled version."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from xml.dom.minidom import Attr, Document, Element, Node, Text, parseString
from xml.parsers.expat import ExpatError

from gdq_cli.images.turn import Turn

Property = Attr | Element
"""XMP writes a property as an attribute or as an element, as it likes."""

_PREFIX = re.compile(rb'xmlns:([\w.-]{1,64})\s*=\s*["\']http://ns\.adobe\.com/tiff/1\.0/["\']')
_ORIENTATION = rb':Orientation(?:\s*=\s*["\']|>)\s*([0-9]{1,2})'
_MAX_TAGS = 20_000  # of a packet; cameras and editors write a few hundred

_STAND_INS = {ord("\t"): "\1", ord("\n"): "\2", ord("\r"): "\3"}  # for white space; no XML holds these characters

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_TIFF, _EXIF = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/"
_XMP, _NOTE = "http://ns.adobe.com/xap/1.0/", "http://ns.adobe.com/xmp/note/"
_PHOTOSHOP, _CONVERTED = "http://ns.adobe.com/photoshop/1.0/", ("4", "9")  # CMYK and Lab, which become RGB
_GOOGLE = "http://ns.google.com/photos/"
_PANORAMA = _GOOGLE + "1.0/panorama/"
_REGIONS = "http://www.metadataworkinggroup.com/schemas/regions/"
_DIMENSIONS, _AREA = "http://ns.adobe.com/xap/1.0/sType/Dimensions#", "http://ns.adobe.com/xmp/sType/Area#"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_DRONE, _PAGES = "http://www.dji.com/drone-dji/1.0/", "http://ns.adobe.com/xap/1.0/t/pg/"
_MICROSOFT = "http://ns.microsoft.com/photo/1.2/t/Region#"

_GONE: tuple[tuple[str, str, str], ...] = (
    (_GOOGLE + "1.0/camera/", r"(MotionPhoto|MicroVideo).*", "an embedded video"),
    ("http://ns.oplus.com/photos/1.0/camera/", r"(MotionPhoto|VideoLength|OLivePhoto).*", "an embedded video"),
    (_GOOGLE + "1.0/container/.*", r".*", "embedded pictures or videos"),
    ("http://ns.adobe.com/hdr-gain-map/1.0/", r".*", "a gain map"),
    ("http://ns.apple.com/(HDRGainMap|HDRToneMap)/1.0/", r".*", "a gain map"),
    ("http://ns.apple.com/(pixeldatainfo|depthData|depthBlurEffect)/1.0/", r".*", "a depth map"),
    (_GOOGLE + "(dd/)?1.0/(depthmap|image|audio|device|camera/depthmap).*/", r".*", "a depth map, picture or sound"),
    (_NOTE, "HasExtendedXMP", "a second, longer XMP packet"),
    (_XMP, "Thumbnails", ""),
    (_TIFF, r"BitsPerSample|Compression|(Photometric|Planar).*|SamplesPerPixel|YCbCrSubSampling", ""),
    (_EXIF, "CompressedBitsPerPixel", ""),
)
"""Namespaces and names, as patterns, of what tells of parts of a file that no output has; and these parts."""


def read_orientation(packet: bytes) -> int | None:
    """The orientation tag as it is (1 to 8 have a meaning); None when absent."""
    prefix = _PREFIX.search(packet)  # whatever it is, ``refresh`` knows the tag by its namespace
    found = re.search((re.escape(prefix[1]) if prefix else b"tiff") + _ORIENTATION, packet)
    return int(found[1]) if found else None


def refresh(packet: bytes, turn: Turn, mime: str, notes: list[str]) -> bytes:
    """The packet of an upscaled picture: sizes and places in pixels scaled and turned, no word of parts that are gone.

    Args:
        packet: as it was read.
        turn: what became of the picture.
        mime: type of the output.
        notes: a line is added for parts of the file that the packet tells of and no output has.

    Raises:
        ValueError: the packet is damaged, or so intricate that it must be.
        RecursionError: so deeply nested.
    """
    document = _parse(packet)
    index = _index(document)
    for namespace, name, part in _GONE:
        gone = _remove(index, re.compile(namespace), re.compile(name))
        if gone and part:
            notes.append(f"{part} in the file is left out")
    for (namespace, name), edit in _table(turn).items():
        for found in index[namespace, name]:
            _edit(found, edit)
    for found in index["http://purl.org/dc/elements/1.1/", "format"]:
        _set(found, mime)
    if any(_get(found).strip() in _CONVERTED for found in index[_PHOTOSHOP, "ColorMode"]):
        _remove(index, re.compile(_PHOTOSHOP), re.compile(r"ColorMode|ICCProfile"))
    for found in (*index[_EXIF, "SubjectArea"], *index[_EXIF, "SubjectLocation"]):
        if isinstance(found, Element):
            _move_subject(found.getElementsByTagNameNS(_RDF, "li"), turn)
    if turn.swaps:
        _exchange(index[_EXIF, "FocalPlaneXResolution"], index[_EXIF, "FocalPlaneYResolution"])
        _exchange(index[_TIFF, "XResolution"], index[_TIFF, "YResolution"])
    _move_regions(index, turn)
    return _write(document)


def _write(document: Document) -> bytes:
    """The document as text. White space that readers would change is written as numbers; minidom omits that."""
    for element in document.getElementsByTagName("*"):
        for attribute in element.attributes.values():
            attribute.value = attribute.value.translate(_STAND_INS)
        for node in element.childNodes:
            if isinstance(node, Text):
                node.data = node.data.replace("\r", _STAND_INS[ord("\r")])
    text = "".join(node.toxml() for node in document.childNodes)
    for code, stand_in in _STAND_INS.items():
        text = text.replace(stand_in, f"&#{code};")
    return text.encode()


def _parse(packet: bytes) -> Document:
    if packet.count(b"<") > _MAX_TAGS:
        raise ValueError("too intricate")
    try:
        document = parseString(packet.strip(b"\0 \t\r\n"))
    except (ExpatError, ValueError, RecursionError, AttributeError) as error:
        raise ValueError("damaged") from error
    if document.doctype is not None:
        raise ValueError("XMP has no document type")
    return document


Index = Mapping[tuple[str, str], list[Property]]
"""The properties of a packet by namespace and name."""


def _index(within: Document | Element) -> Index:
    index: defaultdict[tuple[str, str], list[Property]] = defaultdict(list)
    for element, is_within_its_kind in _walk(within):
        if element.namespaceURI != _RDF and is_within_its_kind:
            continue
        properties: list[Property] = [element, *element.attributes.values()]
        for found in properties:
            index[found.namespaceURI or "", found.localName or ""].append(found)
    return index


def _walk(within: Document | Element) -> Iterator[tuple[Element, bool]]:
    """All elements, and whether each lies within one of its name, which means nothing, and costs time where many do."""
    around: list[tuple[Element, tuple[str | None, str | None]]] = []
    names: Counter[tuple[str | None, str | None]] = Counter()  # of those around
    for element in within.getElementsByTagName("*"):
        while around and around[-1][0] is not element.parentNode:
            names[around.pop()[1]] -= 1
        name = element.namespaceURI, element.localName
        yield element, names[name] > 0
        around.append((element, name))
        names[name] += 1


def _remove(index: Index, namespace: re.Pattern[str], name: re.Pattern[str]) -> bool:
    """Remove the properties of matching namespaces and names; whether there were any."""
    kinds = [kind for kind in index if namespace.fullmatch(kind[0]) and name.fullmatch(kind[1])]
    for found in itertools.chain.from_iterable(index[kind] for kind in kinds):
        if isinstance(found, Element):
            if found.parentNode is not None:
                found.parentNode.removeChild(found)
        elif found.ownerElement is not None:
            found.ownerElement.removeAttributeNode(found)
    return any(index[kind] for kind in kinds)


Edit = Callable[[float], float]


def _table(turn: Turn) -> Mapping[tuple[str, str], Edit]:
    """Properties that are numbers, and what becomes of each."""
    height, width = turn.out
    pairs: tuple[tuple[str, str, str], ...] = (
        (_EXIF, "FocalPlaneXResolution", "FocalPlaneYResolution"),
        (_PANORAMA, "FullPanoWidthPixels", "FullPanoHeightPixels"),
        (_PANORAMA, "CroppedAreaImageWidthPixels", "CroppedAreaImageHeightPixels"),
        (_PANORAMA, "CroppedAreaLeftPixels", "CroppedAreaTopPixels"),
        (_PANORAMA, "LargestValidInteriorRectLeft", "LargestValidInteriorRectTop"),
        (_PANORAMA, "LargestValidInteriorRectWidth", "LargestValidInteriorRectHeight"),
        (_DRONE, "CalibratedOpticalCenterX", "CalibratedOpticalCenterY"),
        (_DRONE, "CalibratedFocalLength", "CalibratedFocalLength"),
    )
    across, down = turn.factors
    table: dict[tuple[str, str], Edit] = {(_TIFF, "Orientation"): lambda _: 1}
    for namespace, horizontal, vertical in pairs:
        table[namespace, horizontal] = lambda value: value * across
        table[namespace, vertical] = lambda value: value * down
    for namespace, horizontal, vertical in (
        (_TIFF, "ImageWidth", "ImageLength"),
        (_EXIF, "PixelXDimension", "PixelYDimension"),
    ):
        table[namespace, horizontal] = lambda _: width
        table[namespace, vertical] = lambda _: height
    return table


def _get(found: Property) -> str:
    if isinstance(found, Attr):
        return found.value
    return "".join(node.data for node in found.childNodes if isinstance(node, Text))


def _set(found: Property, text: str) -> None:
    if isinstance(found, Attr):
        found.value = text
    elif all(node.nodeType == Node.TEXT_NODE for node in found.childNodes):
        for node in list(found.childNodes):
            found.removeChild(node)
        assert found.ownerDocument is not None
        found.appendChild(found.ownerDocument.createTextNode(text))


def _edit(found: Property, edit: Edit) -> None:
    """Change a number: a fraction stays one, a whole number is rounded. What is no number stays as it is."""
    text = _get(found).strip()
    try:
        if "/" in text:
            changed = Fraction(edit(float(Fraction(text)))).limit_denominator(10**6)
            _set(found, f"{changed.numerator}/{changed.denominator}")
        else:
            number = edit(float(text))
            _set(found, f"{number:.9g}" if "." in text else f"{round(number)}")
    except (ValueError, ZeroDivisionError, OverflowError):
        pass


def _move_subject(values: list[Element], turn: Turn) -> None:
    """A point of the subject, with its diameter or its width and height behind it."""
    try:
        numbers = [float(_get(value)) for value in values]
    except ValueError:
        return
    for value, number in zip(values, turn_subject(numbers, turn), strict=False):
        _set(value, str(round(number)))


def turn_subject(numbers: list[float], turn: Turn) -> list[float]:
    """EXIF's SubjectArea or SubjectLocation in the output: x, y; x, y, diameter; or x, y, width, height."""
    if not 2 <= len(numbers) <= 4:
        return numbers
    size = numbers[2:]
    if len(size) == 1:
        size = [size[0] * max(turn.factors)]
    elif size:
        size = list(turn.extent(*size))
    return [*turn.point(*numbers[:2]), *size]


def _exchange(first: list[Property], second: list[Property]) -> None:
    """Swap the values of two properties, which have both been scaled: pixels stay as square as they were."""
    for one, other in zip(first, second, strict=False):
        values = _get(one), _get(other)
        _set(one, values[1])
        _set(other, values[0])


def _move_regions(index: Index, turn: Turn) -> None:
    """Faces and other marked regions: of the Metadata Working Group, of IPTC and of Microsoft."""
    for element in (*index[_REGIONS, "AppliedToDimensions"], *index[_PAGES, "MaxPageSize"]):
        fields = _fields(element, _DIMENSIONS)
        if "unit" not in fields or _get(fields["unit"]).lower() in ("pixel", "pixels"):
            _place(fields, ("w", "h"), turn.extent)
    for element in index[_REGIONS, "Area"]:
        fields = _fields(element, _AREA)
        pixels = "unit" in fields and _get(fields["unit"]) == "pixel"
        _place(fields, ("x", "y"), turn.point if pixels else turn.upright)
        if pixels or turn.swaps:
            _place(fields, ("w", "h"), turn.extent if pixels else lambda w, h: (h, w))
    for element in index[_IPTC, "RegionBoundary"]:
        if isinstance(element, Element):
            _move_boundary(element, turn)
    for found in index[_MICROSOFT, "Rectangle"]:
        _move_rectangle(found, turn)


def _fields(structure: Property, namespace: str) -> dict[str, Property]:
    """The fields of a structure by their names, wherever within it they stand."""
    if not isinstance(structure, Element):
        return {}
    index = _index(structure)
    inside = {name: found[0] for (place, name), found in index.items() if place == namespace}
    own = {found.localName or "": found for found in structure.attributes.values() if found.namespaceURI == namespace}
    return {**inside, **own}


def _place(
    fields: Mapping[str, Property], names: tuple[str, str], move: Callable[[float, float], tuple[float, float]]
) -> None:
    """Move two fields that belong together."""
    try:
        values = move(*(float(_get(fields[name])) for name in names))
    except (KeyError, ValueError):
        return
    for name, value in zip(names, values, strict=True):
        _set(fields[name], f"{value:.9g}")


def _move_boundary(element: Element, turn: Turn) -> None:
    """A rectangle by its top left corner, a circle, or the vertices of a polygon."""
    fields = _fields(element, _IPTC)
    pixels = "rbUnit" in fields and _get(fields["rbUnit"]) == "pixel"
    point = turn.point if pixels else turn.upright
    items = ((item, nested) for item, nested in _walk(element) if (item.namespaceURI, item.localName) == (_RDF, "li"))
    vertices = [item for item, nested in items if not nested]
    for vertex in vertices:
        _place(_fields(vertex, _IPTC), ("rbX", "rbY"), point)
    if vertices:
        return
    try:
        x, y = (float(_get(fields[name])) for name in ("rbX", "rbY"))
        w, h = (float(_get(fields[name])) if name in fields else 0.0 for name in ("rbW", "rbH"))
        radius = float(_get(fields["rbRx"])) if "rbRx" in fields else None
    except (KeyError, ValueError):
        return
    values = dict(zip(("rbX", "rbY", "rbW", "rbH"), _rectangle(x, y, w, h, point), strict=True))
    if radius is not None:
        values["rbRx"] = radius * (max(turn.factors) if pixels else 1)
    for name, value in values.items():
        if name in fields:
            _set(fields[name], f"{value:.9g}")


def _move_rectangle(found: Property, turn: Turn) -> None:
    """Microsoft's: left, top, width and height as shares, in one text."""
    try:
        x, y, w, h = (float(part) for part in _get(found).split(","))
    except ValueError:
        return
    _set(found, ", ".join(f"{value:.6g}" for value in _rectangle(x, y, w, h, turn.upright)))


def _rectangle(
    x: float, y: float, w: float, h: float, point: Callable[[float, float], tuple[float, float]]
) -> tuple[float, float, float, float]:
    """Left, top, width and height of a rectangle whose corners are moved."""
    (x0, y0), (x1, y1) = point(x, y), point(x + w, y + h)
    return min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0)
