// W Gaussians through one camera, forward and backward. Zwicker et al., "EWA splatting" (2002).
#pragma once
#include "simd.h"
#include "splats.h"

namespace {

const float LOW_PASS = 0.3f;
const float ALPHA_CUTOFF = 1.f / 255.f;
const float FAR_PLANE = 1e10f;
const float TIGHT_SIGMAS = 3.33f;

inline float least(float a, float b) { return a < b ? a : b; }
inline float most(float a, float b) { return a > b ? a : b; }
inline bool finite(float a) { return a - a == 0.f; }

struct View {
  float R[9], t[3], fx, fy, cx, cy;
  float left, right, top, bottom;  // clamp of x/z and y/z in the Jacobian
  double inverse[9], center[3];    // of R; of the camera in the world
  int width, height;
};

inline bool make_view(const SplatScene& s, View& v) {
  const float* m = s.view;
  for (int i = 0; i < 3; i++) {
    for (int j = 0; j < 3; j++) v.R[3 * i + j] = m[4 * i + j];
    v.t[i] = m[4 * i + 3];
  }
  v.fx = s.intrinsics[0];
  v.fy = s.intrinsics[4];
  v.cx = s.intrinsics[2];
  v.cy = s.intrinsics[5];
  v.width = s.width;
  v.height = s.height;
  float total = v.fx + v.fy + v.cx + v.cy;
  for (float a : v.R) total += a;
  for (float a : v.t) total += a;
  const float* R = v.R;
  double c[9];  // cofactors
  for (int i = 0; i < 3; i++)
    for (int j = 0; j < 3; j++) {
      int a = (i + 1) % 3, b = (i + 2) % 3, p = (j + 1) % 3, q = (j + 2) % 3;
      c[3 * i + j] = double(R[3 * a + p]) * R[3 * b + q] - double(R[3 * a + q]) * R[3 * b + p];
    }
  double det = R[0] * c[0] + R[1] * c[1] + R[2] * c[2];
  if (!finite(total) || det == 0. || v.fx == 0.f || v.fy == 0.f) return false;
  for (int i = 0; i < 3; i++)
    for (int j = 0; j < 3; j++) v.inverse[3 * i + j] = c[3 * j + i] / det;
  for (int i = 0; i < 3; i++) {
    v.center[i] = 0;
    for (int j = 0; j < 3; j++) v.center[i] -= v.inverse[3 * i + j] * v.t[j];
  }
  v.left = -v.cx / v.fx - 0.15f * v.width / v.fx;
  v.right = (v.width - v.cx) / v.fx + 0.15f * v.width / v.fx;
  v.top = -v.cy / v.fy - 0.15f * v.height / v.fy;
  v.bottom = (v.height - v.cy) / v.fy + 0.15f * v.height / v.fy;
  return true;
}

struct Shapes {
  V mean[3], rotation[4], scale[3], opacity;
};

// Gaussians i ... i + W - 1; lanes from `end` on repeat the one before `end`.
inline void load_shapes(const SplatScene& s, int64_t i, int64_t end, Shapes& g) {
  alignas(64) float lanes[11][W];
  for (int l = 0; l < W; l++) {
    int64_t at = i + l < end ? i + l : end - 1;
    for (int k = 0; k < 3; k++) lanes[k][l] = s.means[3 * at + k];
    for (int k = 0; k < 4; k++) lanes[3 + k][l] = s.rotations[4 * at + k];
    for (int k = 0; k < 3; k++) lanes[7 + k][l] = s.scales[3 * at + k];
    lanes[10][l] = s.opacities[at];
  }
  for (int k = 0; k < 3; k++) g.mean[k] = load(lanes[k]), g.scale[k] = load(lanes[7 + k]);
  for (int k = 0; k < 4; k++) g.rotation[k] = load(lanes[3 + k]);
  g.opacity = load(lanes[10]);
}

struct Projected {
  V x, y, z;         // camera space
  V mx, my;          // pixels
  V ax, ay;          // clamped x/z, y/z
  V a0[3], a1[3];    // rows of J R
  V q[4], inverse_norm;
  V Q[9];            // rotation of the quaternion
  V b0[3], b1[3];    // rows of J R Q
  V s00, s01, s11;   // blurred covariance
  V a, b, c, det;    // its inverse and determinant
  V rho;             // antialiasing factor
  M rho_varies;      // it is not at its floor
  V opacity;         // with rho
};

inline V dot3(const float* row, const V* v) { return splat(row[0]) * v[0] + splat(row[1]) * v[1] + splat(row[2]) * v[2]; }

// The Gaussians that can be drawn, whatever their opacity and place on the image.
inline M project(const SplatScene& s, const View& v, const Shapes& g, Projected& o) {
  const V one = splat(1.f), two = splat(2.f), fx = splat(v.fx), fy = splat(v.fy);
  o.x = dot3(v.R, g.mean) + splat(v.t[0]);
  o.y = dot3(v.R + 3, g.mean) + splat(v.t[1]);
  o.z = dot3(v.R + 6, g.mean) + splat(v.t[2]);
  M drawable = both(ge(o.z, splat(s.near)), le(o.z, splat(FAR_PLANE)));
  const V* r = g.rotation;
  V norm2 = r[0] * r[0] + r[1] * r[1] + r[2] * r[2] + r[3] * r[3];
  drawable = both(drawable, finite(norm2));
  o.inverse_norm = one;
  if (s.normalise) {
    drawable = both(drawable, gt(norm2, splat(1e-24f)));
    o.inverse_norm = one / root(norm2);
  }
  for (int k = 0; k < 4; k++) o.q[k] = r[k] * o.inverse_norm;
  V w = o.q[0], x = o.q[1], y = o.q[2], z = o.q[3];
  V* Q = o.Q;
  Q[0] = one - two * (y * y + z * z), Q[1] = two * (x * y - w * z), Q[2] = two * (x * z + w * y);
  Q[3] = two * (x * y + w * z), Q[4] = one - two * (x * x + z * z), Q[5] = two * (y * z - w * x);
  Q[6] = two * (x * z - w * y), Q[7] = two * (y * z + w * x), Q[8] = one - two * (x * x + y * y);
  V rz = one / o.z, ux = o.x * rz, uy = o.y * rz;
  o.mx = fx * ux + splat(v.cx);
  o.my = fy * uy + splat(v.cy);
  o.ax = smaller(splat(v.right), larger(splat(v.left), ux));
  o.ay = smaller(splat(v.bottom), larger(splat(v.top), uy));
  V j00 = fx * rz, j11 = fy * rz, j02 = splat(0.f) - j00 * o.ax, j12 = splat(0.f) - j11 * o.ay;
  V c00 = splat(0.f), c01 = c00, c11 = c00;
  for (int k = 0; k < 3; k++) {
    o.a0[k] = j00 * splat(v.R[k]) + j02 * splat(v.R[6 + k]);
    o.a1[k] = j11 * splat(v.R[3 + k]) + j12 * splat(v.R[6 + k]);
  }
  for (int k = 0; k < 3; k++) {
    o.b0[k] = o.a0[0] * Q[k] + o.a0[1] * Q[3 + k] + o.a0[2] * Q[6 + k];
    o.b1[k] = o.a1[0] * Q[k] + o.a1[1] * Q[3 + k] + o.a1[2] * Q[6 + k];
    V u = o.b0[k] * g.scale[k], t = o.b1[k] * g.scale[k];
    c00 = c00 + u * u, c01 = c01 + u * t, c11 = c11 + t * t;
  }
  o.s00 = c00 + splat(LOW_PASS), o.s01 = c01, o.s11 = c11 + splat(LOW_PASS);
  o.det = o.s00 * o.s11 - o.s01 * o.s01;
  drawable = both(drawable, both(gt(o.det, splat(0.f)), finite(o.det)));
  V inverse_det = one / o.det;
  o.a = o.s11 * inverse_det, o.b = splat(0.f) - o.s01 * inverse_det, o.c = o.s00 * inverse_det;
  o.rho = one;
  if (s.antialiased) {
    V ratio = (c00 * c11 - c01 * c01) * inverse_det;
    V smallest = splat(most(s.compensation_floor * s.compensation_floor, 1e-37f));
    o.rho_varies = gt(ratio, smallest);
    o.rho = root(select(o.rho_varies, ratio, smallest));
  }
  o.opacity = g.opacity * o.rho;
  drawable = both(drawable, both(finite(o.opacity), both(finite(o.a), finite(o.c))));
  return both(drawable, both(finite(o.mx), finite(o.my)));
}

// What the pixels of one image say about one Gaussian: with A = alpha * d(loss)/d(alpha) and the offset (dx, dy) of
// the pixel from the centre, sums over pixels of A times 1, dx, dy, dx^2, dx dy, dy^2.
enum { MOMENTS = 6 };

struct PoseGradient {
  double view[12], intrinsics[4], center[3];  // row-major 3 x 4; fx, fy, cx, cy; camera centre (through the SH)
};

struct ProjectedGradient {
  V mean[3], rotation[4], scale[3], opacity, mx, my;
  V point[3], da0[3], da1[3], dj00, dj02, dj11, dj12;  // for the camera
};

inline void project_backward(const SplatScene& s, const View& v, const Shapes& shape, const Projected& o,
                             const V* moments, V depth_gradient, ProjectedGradient& g) {
  const V one = splat(1.f), two = splat(2.f), zero = splat(0.f), fx = splat(v.fx), fy = splat(v.fy);
  const V *scale = shape.scale, *Q = o.Q;
  g.mx = o.a * moments[1] + o.b * moments[2];
  g.my = o.b * moments[1] + o.c * moments[2];
  g.opacity = moments[0] / shape.opacity;
  // Conic to covariance: V_S = -C V_C C.
  V va = splat(-0.5f) * moments[3], vh = splat(-0.5f) * moments[4], vc = splat(-0.5f) * moments[5];
  V m00 = o.a * va + o.b * vh, m01 = o.a * vh + o.b * vc, m10 = o.b * va + o.c * vh, m11 = o.b * vh + o.c * vc;
  V v00 = zero - (m00 * o.a + m01 * o.b), v01 = zero - (m00 * o.b + m01 * o.c), v11 = zero - (m10 * o.b + m11 * o.c);
  if (s.antialiased) {
    V f = keep(o.rho_varies, moments[0] / (two * o.rho * o.rho)), left = one - o.rho * o.rho, lost = splat(LOW_PASS) / o.det;
    v00 = v00 + f * (left * o.a - lost);
    v01 = v01 + f * left * o.b;
    v11 = v11 + f * (left * o.c - lost);
  }
  // Covariance = U U^T with U = J R Q diag(scale).
  V dQ[9];
  for (int k = 0; k < 3; k++) g.da0[k] = g.da1[k] = zero;
  for (int k = 0; k < 3; k++) {
    V u = o.b0[k] * scale[k], t = o.b1[k] * scale[k];
    V du = two * (v00 * u + v01 * t), dt = two * (v01 * u + v11 * t);
    g.scale[k] = du * o.b0[k] + dt * o.b1[k];
    V db0 = du * scale[k], db1 = dt * scale[k];
    for (int r = 0; r < 3; r++) {
      g.da0[r] = g.da0[r] + db0 * Q[3 * r + k];
      g.da1[r] = g.da1[r] + db1 * Q[3 * r + k];
      dQ[3 * r + k] = db0 * o.a0[r] + db1 * o.a1[r];
    }
  }
  g.dj00 = dot3(v.R, g.da0), g.dj02 = dot3(v.R + 6, g.da0);
  g.dj11 = dot3(v.R + 3, g.da1), g.dj12 = dot3(v.R + 6, g.da1);
  V rz = one / o.z, ux = o.x * rz, uy = o.y * rz, rz2 = rz * rz;
  V dx = fx * rz * g.mx, dy = fy * rz * g.my;
  V dz = depth_gradient - (fx * ux * g.mx + fy * uy * g.my) * rz;
  // j02 = -fx ax / z: with ax = x/z inside the clamp, constant outside.
  V through_x = fx * rz2 * g.dj02, through_y = fy * rz2 * g.dj12;
  M inside_x = both(ge(ux, splat(v.left)), le(ux, splat(v.right)));
  M inside_y = both(ge(uy, splat(v.top)), le(uy, splat(v.bottom)));
  dx = dx - keep(inside_x, through_x);
  dy = dy - keep(inside_y, through_y);
  dz = dz + select(inside_x, two, one) * o.ax * through_x;
  dz = dz + select(inside_y, two, one) * o.ay * through_y;
  dz = dz - (fx * g.dj00 + fy * g.dj11) * rz2;
  g.point[0] = dx, g.point[1] = dy, g.point[2] = dz;
  for (int k = 0; k < 3; k++) g.mean[k] = splat(v.R[k]) * dx + splat(v.R[3 + k]) * dy + splat(v.R[6 + k]) * dz;

  V w = o.q[0], x = o.q[1], y = o.q[2], z = o.q[3];
  g.rotation[0] = two * (x * (dQ[7] - dQ[5]) + y * (dQ[2] - dQ[6]) + z * (dQ[3] - dQ[1]));
  g.rotation[1] = two * (y * (dQ[3] + dQ[1]) - two * x * (dQ[4] + dQ[8]) + z * (dQ[6] + dQ[2]) + w * (dQ[7] - dQ[5]));
  g.rotation[2] = two * (x * (dQ[3] + dQ[1]) - two * y * (dQ[0] + dQ[8]) + z * (dQ[7] + dQ[5]) + w * (dQ[2] - dQ[6]));
  g.rotation[3] = two * (x * (dQ[6] + dQ[2]) + y * (dQ[7] + dQ[5]) - two * z * (dQ[0] + dQ[4]) + w * (dQ[3] - dQ[1]));
  if (s.normalise) {
    V along = g.rotation[0] * o.q[0] + g.rotation[1] * o.q[1] + g.rotation[2] * o.q[2] + g.rotation[3] * o.q[3];
    for (int k = 0; k < 4; k++) g.rotation[k] = (g.rotation[k] - along * o.q[k]) * o.inverse_norm;
  }
}

// Adds what lane l says about the camera.
inline void pose_backward(const View& v, const Shapes& shape, const Projected& o, const ProjectedGradient& g, int l,
                          PoseGradient& pose) {
  const double rz = 1. / o.z[l], ax = o.ax[l], ay = o.ay[l], j00 = v.fx * rz, j11 = v.fy * rz;
  for (int k = 0; k < 3; k++) {
    const double m = shape.mean[k][l], da0 = g.da0[k][l], da1 = g.da1[k][l];
    pose.view[k] += g.point[0][l] * m + j00 * da0;
    pose.view[4 + k] += g.point[1][l] * m + j11 * da1;
    pose.view[8 + k] += g.point[2][l] * m - j00 * ax * da0 - j11 * ay * da1;
    pose.view[4 * k + 3] += g.point[k][l];
  }
  pose.intrinsics[0] += g.mx[l] * (o.x[l] * rz) + rz * (g.dj00[l] - g.dj02[l] * ax);
  pose.intrinsics[1] += g.my[l] * (o.y[l] * rz) + rz * (g.dj11[l] - g.dj12[l] * ay);
  pose.intrinsics[2] += g.mx[l];
  pose.intrinsics[3] += g.my[l];
}

}  // namespace
