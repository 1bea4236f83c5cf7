"""Antialiasing of outlines written as loops over pixel pairs and faces, in the image plane. Slow; autograd."""

import torch


def antialias_by_loops(image, raster, vertices, faces, camera):
    """One image of a mesh wholly in front of the camera."""
    points = camera.project(vertices)
    corners = [points[face] for face in faces]
    ids, depth = raster.face_ids.tolist(), raster.depth.tolist()
    result = [[image[y, x] for x in range(camera.width)] for y in range(camera.height)]
    for y in range(camera.height):
        for x in range(camera.width):
            for dx, dy in ((1, 0), (0, 1)):
                if x + dx >= camera.width or y + dy >= camera.height or ids[y][x] == ids[y + dy][x + dx]:
                    continue
                near, far = (x, y), (x + dx, y + dy)
                if z_of(ids, depth, near) > z_of(ids, depth, far):
                    near, far = far, near
                edge = ending(ids[near[1]][near[0]], near, far, corners, faces)
                if edge is None:
                    continue
                start, end = points[edge[0]], points[edge[1]]
                if ((end - start)[1].abs() >= (end - start)[0].abs()) != (dx == 1):
                    continue
                share = crossing(center(near, points), center(far, points), start, end) - 0.5
                change = share * (image[near[1], near[0]] - image[far[1], far[0]])
                column, row = far if share > 0 else near
                result[row][column] = result[row][column] + change
    return torch.stack([torch.stack(row) for row in result])


def z_of(ids, depth, pixel):
    x, y = pixel
    return float("inf") if ids[y][x] < 0 else depth[y][x]


def center(pixel, points):
    return points.new_tensor(pixel) + 0.5


def cross(a, b):
    return a[0] * b[1] - a[1] * b[0]


def crossing(p, q, start, end):
    """The share of the way from p to q at which the line through start and end is."""
    return cross(start - p, end - start) / cross(q - p, end - start)


def side(point, start, end):
    return float(cross(end - start, point - start).detach())


def ending(face, near, far, corners, faces):
    """The edge at which the surface seen at the centre of `near` ends before `far`'s: two vertices, or None."""
    p, q = center(near, corners[0]), center(far, corners[0])
    for _ in range(32):
        triangle, names = corners[face], faces[face].tolist()
        exits = []
        for k in range(3):
            a, b = triangle[k - 2], triangle[k - 1]
            if side(triangle[k], a, b) * side(q, a, b) < 0:
                exits.append((float(crossing(p, q, a, b).detach()), {names[k - 2], names[k - 1]}, k))
        if not exits:
            return None
        _, edge, k = min(exits, key=lambda found: found[0])
        others = [f for f in range(len(faces)) if f != face and edge <= set(faces[f].tolist())]
        others = [f for f in others if len(set(faces[f].tolist())) == 3]
        if len(others) > 1:
            return None
        a, b = triangle[k - 2], triangle[k - 1]
        if not others:
            return names[k - 2], names[k - 1]
        (third,) = set(faces[others[0]].tolist()) - edge
        place = next(corners[others[0]][i] for i in range(3) if int(faces[others[0]][i]) == third)
        if side(place, a, b) * side(triangle[k], a, b) > 0:
            return names[k - 2], names[k - 1]
        face = others[0]
    return None
