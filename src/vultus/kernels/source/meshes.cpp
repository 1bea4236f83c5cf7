// Z-buffer rasterisation of triangles by homogeneous edge functions.
//
// A pixel's ray d = ((u - cx) / fx, (v - cy) / fy, 1) meets the triangle p0 p1 p2 (camera space) at the point with
// barycentric coordinates proportional to w_i = d . (p_j x p_k). The w_i are linear in u and v, perspective-correct, and
// valid for triangles that reach behind the camera. An edge shared by two triangles has exactly opposite functions in
// them, so no pixel falls between. See Olano and Greer, "Triangle scan conversion using 2D homogeneous coordinates".
#include "meshes.h"

#include <math.h>

#include "threads.h"

namespace {

const int STRIP = 16;  // rows per task

struct Triangle {
  double a[3], b[3], c[3];  // w_i = a u + b v + c
  double z[3];
  int32_t x0, x1, y0, y1;  // pixels, inclusive; empty where it cannot be seen
};

bool finite(double a) { return a - a == 0.; }

struct View {
  double R[9], t[3], fx, fy, cx, cy;
};

bool make_view(const MeshScene& s, View& v) {
  double total = 0;
  for (int i = 0; i < 3; i++) {
    for (int j = 0; j < 3; j++) total += v.R[3 * i + j] = s.view[4 * i + j];
    total += v.t[i] = s.view[4 * i + 3];
  }
  v.fx = s.intrinsics[0], v.fy = s.intrinsics[4], v.cx = s.intrinsics[2], v.cy = s.intrinsics[5];
  return finite(total + v.fx + v.fy + v.cx + v.cy) && v.fx != 0. && v.fy != 0.;
}

void set_up(const MeshScene& s, const View& v, int64_t face, Triangle& t) {
  double p[3][3], low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY}, behind = INFINITY, front = -INFINITY;
  t.x0 = t.y0 = 0, t.x1 = t.y1 = -1;
  const int64_t* corner = s.triangles + 3 * face;
  if (corner[0] == corner[1] || corner[1] == corner[2] || corner[2] == corner[0]) return;
  for (int k = 0; k < 3; k++) {
    const float* m = s.positions + 3 * corner[k];
    for (int i = 0; i < 3; i++) p[k][i] = v.R[3 * i] * m[0] + v.R[3 * i + 1] * m[1] + v.R[3 * i + 2] * m[2] + v.t[i];
    if (!finite(p[k][0] + p[k][1] + p[k][2])) return;
    t.z[k] = p[k][2];
    behind = p[k][2] < behind ? p[k][2] : behind;
    front = p[k][2] > front ? p[k][2] : front;
    double pixel[2] = {v.fx * p[k][0] / p[k][2] + v.cx, v.fy * p[k][1] / p[k][2] + v.cy};
    for (int i = 0; i < 2; i++) {
      low[i] = pixel[i] < low[i] ? pixel[i] : low[i];
      high[i] = pixel[i] > high[i] ? pixel[i] : high[i];
    }
  }
  if (front < s.near) return;
  if (behind < s.near) low[0] = low[1] = -INFINITY, high[0] = high[1] = INFINITY;
  double x0 = ceil(low[0] - 0.5 - 1e-6), x1 = floor(high[0] - 0.5 + 1e-6);
  double y0 = ceil(low[1] - 0.5 - 1e-6), y1 = floor(high[1] - 0.5 + 1e-6);
  if (x1 < 0 || y1 < 0 || x0 > s.width - 1 || y0 > s.height - 1 || x0 > x1 || y0 > y1) return;
  for (int i = 0; i < 3; i++) {
    const double *q = p[(i + 1) % 3], *r = p[(i + 2) % 3];
    double nx = (q[1] * r[2] - q[2] * r[1]) / v.fx, ny = (q[2] * r[0] - q[0] * r[2]) / v.fy;
    t.a[i] = nx, t.b[i] = ny, t.c[i] = (q[0] * r[1] - q[1] * r[0]) - (nx * v.cx + ny * v.cy);
  }
  t.x0 = x0 > 0 ? int32_t(x0) : 0, t.x1 = x1 < s.width - 1 ? int32_t(x1) : s.width - 1;
  t.y0 = y0 > 0 ? int32_t(y0) : 0, t.y1 = y1 < s.height - 1 ? int32_t(y1) : s.height - 1;
}

inline void weights_at(const Triangle& t, double u, double v, double* w) {
  for (int i = 0; i < 3; i++) w[i] = (t.a[i] * u + t.b[i] * v) + t.c[i];
}

struct Job {
  const MeshScene* scene;
  MeshImage* image;
  View view;
  Triangle* triangles;
};

void set_up_task(void* context, int64_t task, int) {
  const Job& job = *static_cast<Job*>(context);
  int64_t last = (task + 1) * 1024 < job.scene->faces ? (task + 1) * 1024 : job.scene->faces;
  for (int64_t f = task * 1024; f < last; f++) set_up(*job.scene, job.view, f, job.triangles[f]);
}

void strip_task(void* context, int64_t task, int) {
  const Job& job = *static_cast<Job*>(context);
  const MeshScene& s = *job.scene;
  int top = int(task) * STRIP, bottom = top + STRIP < s.height ? top + STRIP : s.height;
  for (int64_t i = int64_t(top) * s.width; i < int64_t(bottom) * s.width; i++) {
    job.image->face[i] = -1;
    job.image->depth[i] = INFINITY;
  }
  for (int64_t f = 0; f < s.faces; f++) {
    const Triangle& t = job.triangles[f];
    int y0 = t.y0 > top ? t.y0 : top, y1 = t.y1 < bottom - 1 ? t.y1 : bottom - 1;
    for (int y = y0; y <= y1; y++) {
      int64_t line = int64_t(y) * s.width;
      for (int x = t.x0; x <= t.x1; x++) {
        double w[3];
        weights_at(t, x + 0.5, y + 0.5, w);
        bool positive = w[0] >= 0 && w[1] >= 0 && w[2] >= 0, negative = w[0] <= 0 && w[1] <= 0 && w[2] <= 0;
        double sum = w[0] + w[1] + w[2];
        if (!(positive || negative) || sum == 0.) continue;
        float z = float((w[0] * t.z[0] + w[1] * t.z[1] + w[2] * t.z[2]) / sum);
        // Equal depths go to the first face.
        if (!(z >= s.near) || !(z < job.image->depth[line + x])) continue;
        job.image->depth[line + x] = z;
        job.image->face[line + x] = f;
      }
    }
  }
  for (int y = top; y < bottom; y++)
    for (int x = 0; x < s.width; x++) {
      int64_t i = int64_t(y) * s.width + x;
      float* b = job.image->barycentric + 3 * i;
      if (job.image->face[i] < 0) {
        b[0] = b[1] = b[2] = job.image->depth[i] = 0.f;
        continue;
      }
      double w[3];
      weights_at(job.triangles[job.image->face[i]], x + 0.5, y + 0.5, w);
      double sum = w[0] + w[1] + w[2];
      for (int k = 0; k < 3; k++) b[k] = float(w[k] / sum);
    }
}

}  // namespace

int draw_mesh(const MeshScene* scene, MeshImage* image) {
  Job job = {scene, image, {}, nullptr};
  if (!make_view(*scene, job.view)) return MESH_BAD_CAMERA;
  Workspace* workspace = workspace_take();
  if (!workspace) return MESH_NO_MEMORY;
  job.triangles = reserve<Triangle>(workspace, 0, scene->faces);
  if (job.triangles) {
    parallel_for(scene->threads, (scene->faces + 1023) / 1024, set_up_task, &job);
    parallel_for(scene->threads, (scene->height + STRIP - 1) / STRIP, strip_task, &job);
  }
  workspace_give(workspace);
  return job.triangles ? MESH_OK : MESH_NO_MEMORY;
}
