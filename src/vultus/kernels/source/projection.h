// One Gaussian through one camera, forward and backward. Zwicker et al., "EWA splatting" (2002).
#pragma once
#include <math.h>

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

struct Projected {
  float x, y, z;       // camera space
  float mx, my;        // pixels
  float ax, ay;        // clamped x/z, y/z
  float a0[3], a1[3];  // rows of J R
  float q[4], inverse_norm;
  float Q[9];            // rotation of the quaternion
  float b0[3], b1[3];    // rows of J R Q
  float s00, s01, s11;   // blurred covariance
  float a, b, c, det;    // its inverse and determinant
  float rho;             // antialiasing factor
  bool rho_is_floor;
  float opacity;         // with rho
};

// False if the Gaussian cannot be drawn, whatever its opacity and place on the image.
inline bool project_one(const SplatScene& s, const View& v, int64_t i, Projected& o) {
  const float* m = s.means + 3 * i;
  const float* R = v.R;
  o.x = R[0] * m[0] + R[1] * m[1] + R[2] * m[2] + v.t[0];
  o.y = R[3] * m[0] + R[4] * m[1] + R[5] * m[2] + v.t[1];
  o.z = R[6] * m[0] + R[7] * m[1] + R[8] * m[2] + v.t[2];
  if (!(o.z >= s.near && o.z <= FAR_PLANE)) return false;
  const float* q = s.rotations + 4 * i;
  float norm2 = q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3];
  if (!finite(norm2)) return false;
  o.inverse_norm = 1.f;
  if (s.normalise) {
    if (!(norm2 > 1e-24f)) return false;
    o.inverse_norm = 1.f / sqrtf(norm2);
  }
  float w = o.q[0] = q[0] * o.inverse_norm, x = o.q[1] = q[1] * o.inverse_norm;
  float y = o.q[2] = q[2] * o.inverse_norm, z = o.q[3] = q[3] * o.inverse_norm;
  float* Q = o.Q;
  Q[0] = 1 - 2 * (y * y + z * z), Q[1] = 2 * (x * y - w * z), Q[2] = 2 * (x * z + w * y);
  Q[3] = 2 * (x * y + w * z), Q[4] = 1 - 2 * (x * x + z * z), Q[5] = 2 * (y * z - w * x);
  Q[6] = 2 * (x * z - w * y), Q[7] = 2 * (y * z + w * x), Q[8] = 1 - 2 * (x * x + y * y);
  float rz = 1.f / o.z, ux = o.x * rz, uy = o.y * rz;
  o.mx = v.fx * ux + v.cx;
  o.my = v.fy * uy + v.cy;
  o.ax = least(v.right, most(v.left, ux));
  o.ay = least(v.bottom, most(v.top, uy));
  float j00 = v.fx * rz, j02 = -v.fx * o.ax * rz, j11 = v.fy * rz, j12 = -v.fy * o.ay * rz;
  float c00 = 0, c01 = 0, c11 = 0;
  for (int k = 0; k < 3; k++) {
    o.a0[k] = j00 * R[k] + j02 * R[6 + k];
    o.a1[k] = j11 * R[3 + k] + j12 * R[6 + k];
  }
  for (int k = 0; k < 3; k++) {
    o.b0[k] = o.a0[0] * Q[k] + o.a0[1] * Q[3 + k] + o.a0[2] * Q[6 + k];
    o.b1[k] = o.a1[0] * Q[k] + o.a1[1] * Q[3 + k] + o.a1[2] * Q[6 + k];
    float scale = s.scales[3 * i + k], u = o.b0[k] * scale, t = o.b1[k] * scale;
    c00 += u * u, c01 += u * t, c11 += t * t;
  }
  o.s00 = c00 + LOW_PASS, o.s01 = c01, o.s11 = c11 + LOW_PASS;
  o.det = o.s00 * o.s11 - o.s01 * o.s01;
  if (!(o.det > 0.f) || !finite(o.det)) return false;
  float inverse_det = 1.f / o.det;
  o.a = o.s11 * inverse_det, o.b = -o.s01 * inverse_det, o.c = o.s00 * inverse_det;
  o.rho = 1.f;
  o.rho_is_floor = true;
  if (s.antialiased) {
    float ratio = (c00 * c11 - c01 * c01) * inverse_det;
    float smallest = most(s.compensation_floor * s.compensation_floor, 1e-37f);
    o.rho_is_floor = !(ratio > smallest);
    o.rho = sqrtf(o.rho_is_floor ? smallest : ratio);
  }
  o.opacity = s.opacities[i] * o.rho;
  return finite(o.opacity) && finite(o.a) && finite(o.c) && finite(o.mx) && finite(o.my);
}

// What the pixels of one image say about one Gaussian: with A = alpha * d(loss)/d(alpha) and the offset (dx, dy) of
// the pixel from the centre, sums over pixels of A times 1, dx, dy, dx^2, dx dy, dy^2.
enum { MOMENTS = 6 };

struct PoseGradient {
  double view[12], intrinsics[4], center[3];  // row-major 3 x 4; fx, fy, cx, cy; camera centre (through the SH)
};

struct ProjectedGradient {
  float mean[3], rotation[4], scale[3], opacity, mx, my;
};

inline void project_one_backward(const SplatScene& s, const View& v, int64_t i, const Projected& o, const float* moments,
                                 float depth_gradient, ProjectedGradient& g, PoseGradient* pose) {
  const float* R = v.R;
  const float *m = s.means + 3 * i, *scale = s.scales + 3 * i, *Q = o.Q;
  g.mx = o.a * moments[1] + o.b * moments[2];
  g.my = o.b * moments[1] + o.c * moments[2];
  g.opacity = moments[0] / s.opacities[i];
  // Conic to covariance: V_S = -C V_C C.
  float va = -0.5f * moments[3], vh = -0.5f * moments[4], vc = -0.5f * moments[5];
  float m00 = o.a * va + o.b * vh, m01 = o.a * vh + o.b * vc, m10 = o.b * va + o.c * vh, m11 = o.b * vh + o.c * vc;
  float v00 = -(m00 * o.a + m01 * o.b), v01 = -(m00 * o.b + m01 * o.c), v11 = -(m10 * o.b + m11 * o.c);
  if (!o.rho_is_floor) {
    float f = moments[0] / (2 * o.rho * o.rho), keep = 1 - o.rho * o.rho, lost = LOW_PASS / o.det;
    v00 += f * (keep * o.a - lost);
    v01 += f * keep * o.b;
    v11 += f * (keep * o.c - lost);
  }
  // Covariance = U U^T with U = J R Q diag(scale).
  float da0[3] = {0, 0, 0}, da1[3] = {0, 0, 0}, dQ[9];
  for (int k = 0; k < 3; k++) {
    float u = o.b0[k] * scale[k], t = o.b1[k] * scale[k];
    float du = 2 * (v00 * u + v01 * t), dt = 2 * (v01 * u + v11 * t);
    g.scale[k] = du * o.b0[k] + dt * o.b1[k];
    float db0 = du * scale[k], db1 = dt * scale[k];
    for (int r = 0; r < 3; r++) {
      da0[r] += db0 * Q[3 * r + k];
      da1[r] += db1 * Q[3 * r + k];
      dQ[3 * r + k] = db0 * o.a0[r] + db1 * o.a1[r];
    }
  }
  float dj00 = 0, dj02 = 0, dj11 = 0, dj12 = 0;
  for (int k = 0; k < 3; k++) {
    dj00 += da0[k] * R[k], dj02 += da0[k] * R[6 + k];
    dj11 += da1[k] * R[3 + k], dj12 += da1[k] * R[6 + k];
  }
  float rz = 1.f / o.z, ux = o.x * rz, uy = o.y * rz, rz2 = rz * rz;
  float dx = v.fx * rz * g.mx, dy = v.fy * rz * g.my;
  float dz = depth_gradient - (v.fx * ux * g.mx + v.fy * uy * g.my) * rz;
  // j02 = -fx ax / z: with ax = x/z inside the clamp, constant outside.
  if (ux >= v.left && ux <= v.right) {
    dx -= v.fx * rz2 * dj02;
    dz += 2 * v.fx * o.ax * rz2 * dj02;
  } else {
    dz += v.fx * o.ax * rz2 * dj02;
  }
  if (uy >= v.top && uy <= v.bottom) {
    dy -= v.fy * rz2 * dj12;
    dz += 2 * v.fy * o.ay * rz2 * dj12;
  } else {
    dz += v.fy * o.ay * rz2 * dj12;
  }
  dz -= (v.fx * dj00 + v.fy * dj11) * rz2;
  for (int k = 0; k < 3; k++) g.mean[k] = R[k] * dx + R[3 + k] * dy + R[6 + k] * dz;

  float w = o.q[0], x = o.q[1], y = o.q[2], z = o.q[3];
  g.rotation[0] = 2 * (x * (dQ[7] - dQ[5]) + y * (dQ[2] - dQ[6]) + z * (dQ[3] - dQ[1]));
  g.rotation[1] = 2 * (-2 * x * (dQ[4] + dQ[8]) + y * (dQ[3] + dQ[1]) + z * (dQ[6] + dQ[2]) + w * (dQ[7] - dQ[5]));
  g.rotation[2] = 2 * (x * (dQ[3] + dQ[1]) - 2 * y * (dQ[0] + dQ[8]) + z * (dQ[7] + dQ[5]) + w * (dQ[2] - dQ[6]));
  g.rotation[3] = 2 * (x * (dQ[6] + dQ[2]) + y * (dQ[7] + dQ[5]) - 2 * z * (dQ[0] + dQ[4]) + w * (dQ[3] - dQ[1]));
  if (s.normalise) {
    float along = 0;
    for (int k = 0; k < 4; k++) along += g.rotation[k] * o.q[k];
    for (int k = 0; k < 4; k++) g.rotation[k] = (g.rotation[k] - along * o.q[k]) * o.inverse_norm;
  }
  if (!pose) return;
  const float point[3] = {dx, dy, dz};
  const float j00 = v.fx * rz, j02 = -v.fx * o.ax * rz, j11 = v.fy * rz, j12 = -v.fy * o.ay * rz;
  for (int k = 0; k < 3; k++) {
    pose->view[k] += double(dx) * m[k] + double(j00) * da0[k];
    pose->view[4 + k] += double(dy) * m[k] + double(j11) * da1[k];
    pose->view[8 + k] += double(dz) * m[k] + double(j02) * da0[k] + double(j12) * da1[k];
    pose->view[4 * k + 3] += point[k];
  }
  pose->intrinsics[0] += double(g.mx) * ux + double(rz) * (dj00 - dj02 * o.ax);
  pose->intrinsics[1] += double(g.my) * uy + double(rz) * (dj11 - dj12 * o.ay);
  pose->intrinsics[2] += g.mx;
  pose->intrinsics[3] += g.my;
}

}  // namespace
