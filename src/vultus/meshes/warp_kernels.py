# type: ignore
# Warp's language is Python to the parser only: its types, indexing and conversions mean nothing to a type checker.
"""Warp kernels of the mesh rasteriser; `vultus.meshes.cuda` runs them.

Mathematics and decisions are those of kernels/source/meshes.cpp, in float64 as there: homogeneous edge functions
(Olano and Greer, "Triangle scan conversion using 2D homogeneous coordinates"). The z-buffer is made in two passes,
first the smallest depth of every pixel, then the lowest face with that depth, so that the result does not depend on the
order in which a GPU runs its threads. Multiply-adds are not fused: an edge must have exactly opposite functions in the
two triangles that share it, and both passes must find the same depth.
"""

# Without `from __future__ import annotations`: Warp compiles the kernels from their annotations.

import warp as wp

wp.set_module_options({"fuse_fp": False, "enable_backward": False, "fast_math": False})

ROWS = wp.constant(16)
"""Of a face in the image, drawn by one thread."""


@wp.struct
class Edges:
    """Of a face: edge functions a u + b v + c at the image point (u, v), one per corner, and depths of the corners."""

    a: wp.vec3d
    b: wp.vec3d
    c: wp.vec3d
    z: wp.vec3d


@wp.func
def weights_at(edges: Edges, x: int, y: int):
    """What the edge functions are at the centre of a pixel."""
    u, v = wp.float64(x) + wp.float64(0.5), wp.float64(y) + wp.float64(0.5)
    return wp.vec3d(
        (edges.a[0] * u + edges.b[0] * v) + edges.c[0],
        (edges.a[1] * u + edges.b[1] * v) + edges.c[1],
        (edges.a[2] * u + edges.b[2] * v) + edges.c[2],
    )


@wp.func
def depth_at(edges: Edges, x: int, y: int, near: float):
    """Depth of the face at the centre of a pixel, infinity where the face is not."""
    w = weights_at(edges, x, y)
    zero = wp.float64(0.0)
    positive = w[0] >= zero and w[1] >= zero and w[2] >= zero
    negative = w[0] <= zero and w[1] <= zero and w[2] <= zero
    total = w[0] + w[1] + w[2]
    depth = float(wp.inf)
    if (positive or negative) and total != zero:
        z = wp.float32((w[0] * edges.z[0] + w[1] * edges.z[1] + w[2] * edges.z[2]) / total)
        if z >= near:
            depth = z
    return depth


@wp.func
def first_pixel(low: wp.float64, size: int):
    """The first pixel of a row or column whose centre is not before `low`; `size` where there is none."""
    return int(wp.clamp(wp.ceil(low - wp.float64(0.5 + 1e-6)), wp.float64(0.0), wp.float64(size)))


@wp.func
def last_pixel(high: wp.float64, size: int):
    """The last pixel of a row or column whose centre is not after `high`; -1 where there is none."""
    return int(wp.clamp(wp.floor(high - wp.float64(0.5 - 1e-6)), wp.float64(-1.0), wp.float64(size - 1)))


@wp.kernel
def set_up(
    positions: wp.array2d[wp.vec3f],
    faces: wp.array2d[wp.int32],
    views: wp.array[wp.mat44f],
    intrinsics: wp.array[wp.mat33f],
    width: int,
    height: int,
    near: float,
    edges: wp.array2d[Edges],
    boxes: wp.array2d[wp.vec4i],
):
    """Edge functions of every face in every image, and the pixels that it can show: x0, y0, x1, y1, all included."""
    image, face = wp.tid()
    boxes[image, face] = wp.vec4i(0, 0, -1, -1)
    i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
    if i == j or j == k or k == i:
        return
    view, K = wp.mat44d(views[image]), wp.mat33d(intrinsics[image])
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    p = wp.matrix(shape=(3, 3), dtype=wp.float64)
    for corner in range(3):
        m = wp.vec3d(positions[image, faces[face, corner]])
        for axis in range(3):
            p[corner, axis] = view[axis, 0] * m[0] + view[axis, 1] * m[1] + view[axis, 2] * m[2] + view[axis, 3]
    if not wp.isfinite(p[0]) or not wp.isfinite(p[1]) or not wp.isfinite(p[2]):
        return
    z = wp.vec3d(p[0, 2], p[1, 2], p[2, 2])
    limit = wp.float64(near)
    if wp.max(z) < limit:
        return
    x0, y0, x1, y1 = wp.int32(0), wp.int32(0), width - 1, height - 1
    if wp.min(z) >= limit:  # else it may be anywhere
        u = wp.vec3d(fx * p[0, 0] / z[0] + cx, fx * p[1, 0] / z[1] + cx, fx * p[2, 0] / z[2] + cx)
        v = wp.vec3d(fy * p[0, 1] / z[0] + cy, fy * p[1, 1] / z[1] + cy, fy * p[2, 1] / z[2] + cy)
        x0, x1 = first_pixel(wp.min(u), width), last_pixel(wp.max(u), width)
        y0, y1 = first_pixel(wp.min(v), height), last_pixel(wp.max(v), height)
    if x0 > x1 or y0 > y1:
        return
    e = Edges()
    e.z = z
    for corner in range(3):
        n = wp.cross(p[(corner + 1) % 3], p[(corner + 2) % 3])
        e.a[corner] = n[0] / fx
        e.b[corner] = n[1] / fy
        e.c[corner] = n[2] - (n[0] / fx * cx + n[1] / fy * cy)
    edges[image, face] = e
    boxes[image, face] = wp.vec4i(x0, y0, x1, y1)


@wp.kernel
def nearest_depths(edges: wp.array2d[Edges], boxes: wp.array2d[wp.vec4i], near: float, depths: wp.array3d[wp.float32]):
    """The smallest depth of every pixel."""
    image, face, strip = wp.tid()
    box = boxes[image, face]
    for y in range(wp.max(box[1], strip * ROWS), wp.min(box[3], strip * ROWS + ROWS - 1) + 1):
        for x in range(box[0], box[2] + 1):
            depth = depth_at(edges[image, face], x, y, near)
            if depth < depths[image, y, x]:
                wp.atomic_min(depths, image, y, x, depth)


@wp.kernel
def lowest_faces(
    edges: wp.array2d[Edges],
    boxes: wp.array2d[wp.vec4i],
    near: float,
    depths: wp.array3d[wp.float32],
    found: wp.array3d[wp.int32],
):
    """The lowest face that has the smallest depth of a pixel."""
    image, face, strip = wp.tid()
    box = boxes[image, face]
    for y in range(wp.max(box[1], strip * ROWS), wp.min(box[3], strip * ROWS + ROWS - 1) + 1):
        for x in range(box[0], box[2] + 1):
            depth = depth_at(edges[image, face], x, y, near)
            if depth < float(wp.inf) and depth == depths[image, y, x]:
                wp.atomic_min(found, image, y, x, face)


@wp.kernel
def finish(
    edges: wp.array2d[Edges],
    nobody: int,
    found: wp.array3d[wp.int32],
    depths: wp.array3d[wp.float32],
    face_ids: wp.array3d[wp.int64],
    barycentric: wp.array3d[wp.vec3f],
):
    """Faces and barycentric coordinates of all pixels; depth 0 where there is no face."""
    image, y, x = wp.tid()
    face = found[image, y, x]
    if face == nobody:
        face_ids[image, y, x] = wp.int64(-1)
        barycentric[image, y, x] = wp.vec3f(0.0, 0.0, 0.0)
        depths[image, y, x] = 0.0
        return
    w = weights_at(edges[image, face], x, y)
    face_ids[image, y, x] = wp.int64(face)
    barycentric[image, y, x] = wp.vec3f(w / (w[0] + w[1] + w[2]))
