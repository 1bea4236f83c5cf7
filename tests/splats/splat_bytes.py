"""Splat files built byte by byte with struct, and their scalar decoders, straight from the published layouts."""

import gzip
import json
import math
import struct

import numpy as np

C0 = 0.28209479177387814


def spz_header(version, count, degree=0, bits=12, flags=0, magic=0x5053474E):
    return struct.pack("<IIIBBBB", magic, version, count, degree, bits, flags, 0)


def spz_file(version, splats, degree=0, bits=12, flags=0, tail=b""):
    """splats: dictionaries with position (integers), alpha, color, scale, rotation and sh (bytes)."""
    body = b"".join(struct.pack("<i", p)[:3] for s in splats for p in s["position"])
    for name in ("alpha", "color", "scale", "rotation", "sh"):
        body += b"".join(bytes(s.get(name, b"")) for s in splats)
    return gzip.compress(spz_header(version, len(splats), degree, bits, flags) + body + tail, mtime=0)


def packed_ply(chunks, vertices, harmonics=None, chunk_properties=18, counts=None):
    names = [f"{end}_{n}" for g in ("xyz", None, "rgb") for end in ("min", "max")
             for n in (g or ("scale_x", "scale_y", "scale_z"))]  # fmt: skip
    counts = counts or (len(chunks), len(vertices), len(harmonics or []))
    lines = ["ply", "format binary_little_endian 1.0", "comment by hand", f"element chunk {counts[0]}"]
    lines += [f"property float {n}" for n in names[:chunk_properties]]
    lines += [f"element vertex {counts[1]}"]
    lines += [f"property uint packed_{n}" for n in ("position", "rotation", "scale", "color")]
    if harmonics is not None:
        lines += [f"element sh {counts[2]}", *(f"property uchar f_rest_{i}" for i in range(len(harmonics[0])))]
    content = "\n".join([*lines, "end_header", ""]).encode()
    content += b"".join(struct.pack(f"<{chunk_properties}f", *c) for c in chunks)
    content += b"".join(struct.pack("<4I", *v) for v in vertices)
    return content + b"".join(bytes(h) for h in harmonics or [])


def dot_splat(mean, scale, color, rotation):
    return struct.pack("<6f8B", *mean, *scale, *color, *rotation)


def glb(document, binary=b"", *, magic=0x46546C67, version=2, length=None, json_length=None, binary_length=None):
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    binary += bytes(-len(binary) % 4)
    chunks = struct.pack("<II", len(text) if json_length is None else json_length, 0x4E4F534A) + text
    chunks += struct.pack("<II", len(binary) if binary_length is None else binary_length, 0x004E4942) + binary
    return struct.pack("<III", magic, version, 12 + len(chunks) if length is None else length) + chunks


def splat_document(count=1, node=None):
    """A document and binary of `count` splats: float positions, scales and colours; 8-bit rotations and opacities."""
    index = np.arange(count)
    arrays = {
        "POSITION": (np.stack([index, index + 0.5, index + 0.25], 1).astype("<f4"), 5126, "VEC3", False),
        "KHR_gaussian_splatting:SCALE": (np.full((count, 3), [0.1, 0.2, 0.3], "<f4"), 5126, "VEC3", False),
        "KHR_gaussian_splatting:ROTATION": (np.full((count, 4), [127, 0, 0, 0], "i1"), 5120, "VEC4", True),
        "KHR_gaussian_splatting:OPACITY": (np.full((count, 4), [51, 0, 0, 0], "u1"), 5121, "SCALAR", True),
        "KHR_gaussian_splatting:SH_DEGREE_0_COEF_0": (np.full((count, 3), 0.5, "<f4"), 5126, "VEC3", False),
    }
    binary, views, accessors = b"", [], []
    for number, (array, component, form, normalized) in enumerate(arrays.values()):
        data = array.tobytes()
        view = {"buffer": 0, "byteOffset": len(binary), "byteLength": len(data)}
        if form == "SCALAR":
            view["byteStride"] = 4  # vertex data is aligned to 4 bytes
        views.append(view)
        accessors.append({"bufferView": number, "componentType": component, "count": count, "type": form,
                          "normalized": normalized})  # fmt: skip
        binary += data
    primitive = {
        "attributes": {name: number for number, name in enumerate(arrays)},
        "mode": 0,
        "extensions": {"KHR_gaussian_splatting": {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}},
    }
    document = {
        "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0, **(node or {})}],
        "meshes": [{"primitives": [primitive]}], "accessors": accessors, "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}], "extensionsUsed": ["KHR_gaussian_splatting"],
    }  # fmt: skip
    return document, binary


def rotation_error(a, b):
    """Angles (radians) between rotations given as quaternions, whatever their signs."""
    dot = np.abs((np.asarray(a, np.float64) * np.asarray(b, np.float64)).sum(-1))
    return 2 * np.arccos(np.clip(dot, 0, 1))


def smallest_three(packed, order, unit):
    """Decode a 2+10+10+10-bit quaternion; order: where components 0..3 go in wxyz; unit: field → value."""
    largest, fields = packed >> 30, [(packed >> shift) & 1023 for shift in (20, 10, 0)]
    values, quaternion = [unit(field) for field in fields], [0.0] * 4
    for i in range(4):
        if i != largest:
            quaternion[order[i]] = values.pop(0)
    quaternion[order[largest]] = math.sqrt(max(0.0, 1 - sum(v * v for v in quaternion)))
    return quaternion
