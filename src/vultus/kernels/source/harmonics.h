// Real spherical harmonics of degrees 0 to 4 and their derivatives; order and signs as in vultus/splats/sh.py.
#pragma once

namespace {

inline void sh_basis(int degree, float x, float y, float z, float* Y) {
  Y[0] = 0.28209479177387814f;
  if (degree < 1) return;
  const float c1 = 0.4886025119029199f;
  Y[1] = -c1 * y, Y[2] = c1 * z, Y[3] = -c1 * x;
  if (degree < 2) return;
  const float c2 = 1.0925484305920792f, xx = x * x, yy = y * y, zz = z * z;
  Y[4] = c2 * x * y, Y[5] = -c2 * y * z, Y[6] = 0.31539156525252005f * (2 * zz - xx - yy);
  Y[7] = -c2 * x * z, Y[8] = 0.5462742152960396f * (xx - yy);
  if (degree < 3) return;
  const float c3 = -0.5900435899266435f, d3 = -0.4570457994644658f;
  Y[9] = c3 * y * (3 * xx - yy), Y[10] = 2.890611442640554f * x * y * z, Y[11] = d3 * y * (4 * zz - xx - yy);
  Y[12] = 0.3731763325901154f * z * (2 * zz - 3 * xx - 3 * yy), Y[13] = d3 * x * (4 * zz - xx - yy);
  Y[14] = 1.445305721320277f * z * (xx - yy), Y[15] = c3 * x * (xx - 3 * yy);
  if (degree < 4) return;
  const float c4 = -1.7701307697799304f, d4 = -0.6690465435572892f;
  Y[16] = 2.5033429417967046f * x * y * (xx - yy), Y[17] = c4 * y * z * (3 * xx - yy);
  Y[18] = 0.9461746957575601f * x * y * (7 * zz - 1), Y[19] = d4 * y * z * (7 * zz - 3);
  Y[20] = 0.10578554691520431f * (zz * (35 * zz - 30) + 3), Y[21] = d4 * x * z * (7 * zz - 3);
  Y[22] = 0.47308734787878004f * (xx - yy) * (7 * zz - 1), Y[23] = c4 * x * z * (xx - 3 * yy);
  Y[24] = 0.6258357354491761f * (xx * (xx - 3 * yy) - yy * (3 * xx - yy));
}

// Adds sum_k weights[k] * dY_k/d(x, y, z) to g.
inline void sh_basis_gradient(int degree, float x, float y, float z, const float* weights, float* g) {
  auto add = [&](int k, float c, float dx, float dy, float dz) {
    float w = c * weights[k];
    g[0] += w * dx, g[1] += w * dy, g[2] += w * dz;
  };
  if (degree < 1) return;
  const float c1 = 0.4886025119029199f;
  add(1, -c1, 0, 1, 0), add(2, c1, 0, 0, 1), add(3, -c1, 1, 0, 0);
  if (degree < 2) return;
  const float c2 = 1.0925484305920792f, xx = x * x, yy = y * y, zz = z * z;
  add(4, c2, y, x, 0), add(5, -c2, 0, z, y), add(6, 0.31539156525252005f, -2 * x, -2 * y, 4 * z);
  add(7, -c2, z, 0, x), add(8, 0.5462742152960396f, 2 * x, -2 * y, 0);
  if (degree < 3) return;
  const float c3 = -0.5900435899266435f, d3 = -0.4570457994644658f, xy = x * y, xz = x * z, yz = y * z;
  add(9, c3, 6 * xy, 3 * (xx - yy), 0), add(10, 2.890611442640554f, yz, xz, xy);
  add(11, d3, -2 * xy, 4 * zz - xx - 3 * yy, 8 * yz);
  add(12, 0.3731763325901154f, -6 * xz, -6 * yz, 6 * zz - 3 * xx - 3 * yy);
  add(13, d3, 4 * zz - 3 * xx - yy, -2 * xy, 8 * xz);
  add(14, 1.445305721320277f, 2 * xz, -2 * yz, xx - yy), add(15, c3, 3 * (xx - yy), -6 * xy, 0);
  if (degree < 4) return;
  const float c4 = -1.7701307697799304f, d4 = -0.6690465435572892f, e = 7 * zz - 1, f = 7 * zz - 3;
  add(16, 2.5033429417967046f, y * (3 * xx - yy), x * (xx - 3 * yy), 0);
  add(17, c4, 6 * xy * z, 3 * z * (xx - yy), y * (3 * xx - yy));
  add(18, 0.9461746957575601f, y * e, x * e, 14 * xy * z), add(19, d4, 0, z * f, y * (21 * zz - 3));
  add(20, 0.10578554691520431f, 0, 0, z * (140 * zz - 60)), add(21, d4, z * f, 0, x * (21 * zz - 3));
  add(22, 0.47308734787878004f, 2 * x * e, -2 * y * e, 14 * z * (xx - yy));
  add(23, c4, 3 * z * (xx - yy), -6 * xy * z, x * (xx - 3 * yy));
  add(24, 0.6258357354491761f, 4 * x * (xx - 3 * yy), 4 * y * (yy - 3 * xx), 0);
}

}  // namespace
