// The C interface of mesh rasterisation. Mirrored field by field in vultus/meshes/rasterize.py.
#pragma once
#include <stdint.h>

struct MeshScene {
  int64_t vertices, faces;
  int32_t width, height, threads;
  float near;
  const float* positions;    // [V 3], world
  const int64_t* triangles;  // [F 3], checked by the caller
  const float *view, *intrinsics;
};

struct MeshImage {
  int64_t* face;       // [H W], -1 where nothing is
  float* barycentric;  // [H W 3], 0 where nothing is
  float* depth;        // [H W], 0 where nothing is
};

enum MeshError { MESH_OK = 0, MESH_NO_MEMORY = 1, MESH_BAD_CAMERA = 2 };

int draw_mesh(const MeshScene* scene, MeshImage* image);
