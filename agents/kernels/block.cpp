// Conv4's block after its convolution: batch normalisation, max-pool, ReLU, and their derivatives.
//
// Channels last: u [S, H, W, C] is the convolution's output, pooled maps are [S, H/2, W/2, C]. Derivatives reach
// y = scale * n + shift, n = (u - mean) * rstd, only at the pixels that the pool picked. Names with an r are
// derivatives along a direction. agents/conv4_block.py is the same in torch, with the formulas.

#include <cstdint>
#include <vector>

namespace {

struct Shape {
    long s, h, w, c;
    long ph() const { return h / 2; }
    long pw() const { return w / 2; }
    long pixels() const { return s * h * w; }
    long row(long i, long y, long x) const { return ((i * h + y) * w + x) * c; }
    long pooled_row(long i, long y, long x) const { return ((i * ph() + y) * pw() + x) * c; }
};

// Sums per channel, in double over stretches summed in T.
template <class T, int N> struct Sums {
    explicit Sums(long c) : c(c), part(N * c, T(0)), whole(N * c, 0.0) {}
    T *of(int k) { return part.data() + k * c; }
    void flush() {
        for (long i = 0; i < N * c; i++) whole[i] += part[i], part[i] = 0;
    }
    double operator()(int k, long ch) const { return whole[k * c + ch]; }
    long c;
    std::vector<T> part;
    std::vector<double> whole;
};

// Adds the sums of u - near and of its square, per channel, to `moments` [2, C]; near is any value about the mean.
template <class T> void add_moments(const T *__restrict u, const T *__restrict near, double *moments, Shape z) {
    const long C = z.c;
    Sums<T, 2> sums(C);
    for (long r = 0; r < z.s * z.h; r++) {
        T *__restrict a = sums.of(0), *__restrict b = sums.of(1);
        for (long x = 0; x < z.w; x++) {
            const T *__restrict p = u + (r * z.w + x) * C;
            for (long c = 0; c < C; c++) {
                T d = p[c] - near[c];
                a[c] += d;
                b[c] += d * d;
            }
        }
        sums.flush();
    }
    for (long i = 0; i < 2 * C; i++) moments[i] += sums.whole[i];
}

template <class T>
void pool(const T *__restrict u, const T *mean, const T *__restrict rstd, const T *scale, const T *shift,
          T *__restrict pooled, T *__restrict n_picked, uint8_t *__restrict picked, Shape z) {
    const long C = z.c;
    std::vector<T> offset(C);
    for (long c = 0; c < C; c++) offset[c] = -mean[c] * rstd[c];
    const T *__restrict f = rstd, *__restrict g = offset.data();
    for (long i = 0; i < z.s; i++)
        for (long y = 0; y < z.ph(); y++)
            for (long x = 0; x < z.pw(); x++) {
                const T *__restrict p0 = u + z.row(i, 2 * y, 2 * x), *__restrict p1 = p0 + C;
                const T *__restrict p2 = p0 + z.w * C, *__restrict p3 = p2 + C;
                const long at = z.pooled_row(i, y, x);
                T *__restrict out = pooled + at, *__restrict n_out = n_picked + at;
                uint8_t *__restrict k_out = picked + at;
                for (long c = 0; c < C; c++) {
                    T n = p0[c] * f[c] + g[c], n1 = p1[c] * f[c] + g[c];
                    T n2 = p2[c] * f[c] + g[c], n3 = p3[c] * f[c] + g[c];
                    T v = n * scale[c] + shift[c], v1 = n1 * scale[c] + shift[c];
                    T v2 = n2 * scale[c] + shift[c], v3 = n3 * scale[c] + shift[c];
                    int k = 0;
                    if (v1 > v) v = v1, n = n1, k = 1;
                    if (v2 > v) v = v2, n = n2, k = 2;
                    if (v3 > v) v = v3, n = n3, k = 3;
                    out[c] = v < 0 ? T(0) : v;
                    n_out[c] = n;
                    k_out[c] = uint8_t(k);
                }
            }
}

// d_shift and d_scale, from the gradient d of the pooled maps; z is the pooled size.
template <class T>
void backward_sums(const T *__restrict n_picked, const T *__restrict pooled, const T *__restrict d, T *d_scale,
                   T *d_shift, Shape z) {
    const long C = z.c;
    Sums<T, 2> sums(C);
    for (long r = 0; r < z.s * z.h; r++) {
        T *__restrict a = sums.of(0), *__restrict b = sums.of(1);
        for (long x = 0; x < z.w; x++) {
            const long at = (r * z.w + x) * C;
            const T *__restrict n = n_picked + at, *__restrict h = pooled + at, *__restrict g = d + at;
            for (long c = 0; c < C; c++) {
                T dy = h[c] > 0 ? g[c] : T(0);
                a[c] += dy * n[c];
                b[c] += dy;
            }
        }
        sums.flush();
    }
    for (long c = 0; c < C; c++) d_scale[c] = T(sums(0, c)), d_shift[c] = T(sums(1, c));
}

// du = rstd (scale dy - p - q n) where p and q are the means of scale dy and n scale dy over `pixels`.
template <class T>
void backward(const T *__restrict u, const uint8_t *__restrict picked, const T *__restrict pooled,
              const T *__restrict d, const T *scale, const T *mean, const T *rstd, const T *d_scale, const T *d_shift,
              T *__restrict du, Shape z, double pixels) {
    const long C = z.c;
    std::vector<T> slope(C), constant(C), gain(C);
    for (long c = 0; c < C; c++) {
        double q = double(scale[c]) * d_scale[c] / pixels, p = double(scale[c]) * d_shift[c] / pixels, r = rstd[c];
        slope[c] = T(-r * r * q);
        constant[c] = T(-r * p + r * r * q * mean[c]);
        gain[c] = T(r * scale[c]);
    }
    const T *__restrict a = slope.data(), *__restrict b = constant.data(), *__restrict e = gain.data();
    for (long i = 0; i < z.s; i++)
        for (long y = 0; y < z.h; y++)
            for (long x = 0; x < z.w; x++) {
                const T *__restrict p = u + z.row(i, y, x);
                T *__restrict out = du + z.row(i, y, x);
                if (y / 2 >= z.ph() || x / 2 >= z.pw()) {
                    for (long c = 0; c < C; c++) out[c] = a[c] * p[c] + b[c];
                    continue;
                }
                const long at = z.pooled_row(i, y / 2, x / 2);
                const T *__restrict h = pooled + at, *__restrict g = d + at;
                const uint8_t *__restrict k = picked + at;
                const uint8_t here = uint8_t(2 * (y % 2) + x % 2);
                for (long c = 0; c < C; c++) {
                    T on = k[c] == here && h[c] > 0 ? e[c] * g[c] : T(0);
                    out[c] = a[c] * p[c] + b[c] + on;
                }
            }
}

template <class T>
void r_forward(const T *__restrict u, const T *__restrict ru, const T *__restrict n_picked,
               const uint8_t *__restrict picked, const T *__restrict pooled, const T *scale, const T *mean,
               const T *rstd, const T *r_scale, const T *r_shift, T *__restrict rh, T *__restrict rn_picked,
               T *__restrict ru_mean, T *__restrict bend, Shape z) {
    const long C = z.c;
    Sums<T, 2> sums(C);
    for (long r = 0; r < z.s * z.h; r++) {
        T *__restrict a = sums.of(0), *__restrict b = sums.of(1);
        for (long x = 0; x < z.w; x++) {
            const long at = (r * z.w + x) * C;
            const T *__restrict p = u + at, *__restrict g = ru + at;
            for (long c = 0; c < C; c++) {
                a[c] += g[c];
                b[c] += (p[c] - mean[c]) * g[c];
            }
        }
        sums.flush();
    }
    for (long c = 0; c < C; c++) {
        ru_mean[c] = T(sums(0, c) / z.pixels());
        bend[c] = T(sums(1, c) / z.pixels() * rstd[c]);  // mean of n ru
    }
    for (long i = 0; i < z.s; i++)
        for (long y = 0; y < z.ph(); y++)
            for (long x = 0; x < z.pw(); x++) {
                const T *__restrict p0 = ru + z.row(i, 2 * y, 2 * x), *__restrict p1 = p0 + C;
                const T *__restrict p2 = p0 + z.w * C, *__restrict p3 = p2 + C;
                const long at = z.pooled_row(i, y, x);
                const T *__restrict n = n_picked + at, *__restrict h = pooled + at;
                const uint8_t *__restrict k = picked + at;
                T *__restrict out = rh + at, *__restrict rn_out = rn_picked + at;
                for (long c = 0; c < C; c++) {
                    T g = p0[c], g1 = p1[c], g2 = p2[c], g3 = p3[c];
                    if (k[c] == 1) g = g1;
                    if (k[c] == 2) g = g2;
                    if (k[c] == 3) g = g3;
                    T rn = rstd[c] * (g - ru_mean[c] - n[c] * bend[c]);
                    rn_out[c] = rn;
                    out[c] = h[c] > 0 ? scale[c] * rn + r_scale[c] * n[c] + r_shift[c] : T(0);
                }
            }
}

template <class T>
void r_backward(const T *__restrict u, const T *__restrict ru, const T *__restrict n_picked,
                const T *__restrict rn_picked, const uint8_t *__restrict picked, const T *__restrict pooled,
                const T *scale, const T *mean, const T *rstd, const T *r_scale, const T *ru_mean, const T *bend,
                const T *__restrict d, const T *__restrict rd, T *__restrict du, T *__restrict rdu,
                T *__restrict rd_scale, T *__restrict rd_shift, Shape z) {
    const long C = z.c;
    Sums<T, 4> sums(C);
    for (long r = 0; r < z.s * z.ph(); r++) {
        T *__restrict s0 = sums.of(0), *__restrict s1 = sums.of(1), *__restrict s2 = sums.of(2),
                      *__restrict s3 = sums.of(3);
        for (long x = 0; x < z.pw(); x++) {
            const long at = (r * z.pw() + x) * C;
            const T *__restrict n = n_picked + at, *__restrict rn = rn_picked + at, *__restrict h = pooled + at;
            const T *__restrict g = d + at, *__restrict rg = rd + at;
#pragma GCC ivdep
            for (long c = 0; c < C; c++) {
                T dy = g[c], rdy = rg[c];
                if (!(h[c] > 0)) dy = 0, rdy = 0;
                s0[c] += dy;
                s1[c] += dy * n[c];
                s2[c] += rdy;
                s3[c] += rdy * n[c] + dy * rn[c];
            }
        }
        sums.flush();
    }
    std::vector<T> line(7 * C);
    T *__restrict du_n = line.data(), *__restrict du_0 = du_n + C, *__restrict du_y = du_0 + C;
    T *__restrict r_n = du_y + C, *__restrict r_0 = r_n + C, *__restrict r_u = r_0 + C, *__restrict r_y = r_u + C;
    for (long c = 0; c < C; c++) {
        double m = z.pixels(), k = scale[c], rk = r_scale[c], r = rstd[c];
        double p = k * sums(0, c) / m, q = k * sums(1, c) / m;
        double rp = (k * sums(2, c) + rk * sums(0, c)) / m, rq = (k * sums(3, c) + rk * sums(1, c)) / m;
        double b = r * bend[c];  // rstd changes by -rstd b
        double on_n = 2 * b * r * q - r * rq, constant = b * r * p - r * rp + r * r * q * ru_mean[c];
        rd_scale[c] = T(sums(3, c));
        rd_shift[c] = T(sums(2, c));
        du_n[c] = T(-r * q * r);
        du_0[c] = T(-r * p + r * q * r * mean[c]);
        du_y[c] = T(r * k);
        r_n[c] = T(on_n * r);
        r_0[c] = T(constant - on_n * r * mean[c]);
        r_u[c] = T(-r * q * r);
        r_y[c] = T(r * rk - b * r * k);
    }
    for (long i = 0; i < z.s; i++)
        for (long y = 0; y < z.h; y++)
            for (long x = 0; x < z.w; x++) {
                const long full = z.row(i, y, x);
                const T *__restrict p = u + full, *__restrict rp = ru + full;
                T *__restrict out = du + full, *__restrict r_out = rdu + full;
                for (long c = 0; c < C; c++) {
                    out[c] = du_n[c] * p[c] + du_0[c];
                    r_out[c] = r_n[c] * p[c] + r_u[c] * rp[c] + r_0[c];
                }
                if (y / 2 >= z.ph() || x / 2 >= z.pw()) continue;
                const long at = z.pooled_row(i, y / 2, x / 2);
                const T *__restrict h = pooled + at, *__restrict g = d + at, *__restrict rg = rd + at;
                const uint8_t *__restrict k = picked + at;
                const uint8_t here = uint8_t(2 * (y % 2) + x % 2);
                for (long c = 0; c < C; c++) {
                    bool on = k[c] == here && h[c] > 0;
                    T dy = on ? g[c] : T(0), rdy = on ? rg[c] : T(0);
                    out[c] += du_y[c] * dy;
                    r_out[c] += du_y[c] * rdy + r_y[c] * dy;
                }
            }
}

}  // namespace

#define EXPORT(T, NAME)                                                                                              \
    void block_add_moments_##NAME(const T *u, const T *near, double *moments, long s, long h, long w, long c) {      \
        add_moments<T>(u, near, moments, {s, h, w, c});                                                              \
    }                                                                                                                \
    void block_pool_##NAME(const T *u, const T *mean, const T *rstd, const T *scale, const T *shift, T *pooled,      \
                           T *n_picked, uint8_t *picked, long s, long h, long w, long c) {                           \
        pool<T>(u, mean, rstd, scale, shift, pooled, n_picked, picked, {s, h, w, c});                                \
    }                                                                                                                \
    void block_backward_sums_##NAME(const T *n_picked, const T *pooled, const T *d, T *d_scale, T *d_shift, long s,  \
                                    long h, long w, long c) {                                                        \
        backward_sums<T>(n_picked, pooled, d, d_scale, d_shift, {s, h, w, c});                                       \
    }                                                                                                                \
    void block_backward_##NAME(const T *u, const uint8_t *picked, const T *pooled, const T *d, const T *scale,       \
                               const T *mean, const T *rstd, const T *d_scale, const T *d_shift, T *du, long s,      \
                               long h, long w, long c, double pixels) {                                              \
        backward<T>(u, picked, pooled, d, scale, mean, rstd, d_scale, d_shift, du, {s, h, w, c}, pixels);            \
    }                                                                                                                \
    void block_r_forward_##NAME(const T *u, const T *ru, const T *n_picked, const uint8_t *picked, const T *pooled,  \
                                const T *scale, const T *mean, const T *rstd, const T *r_scale, const T *r_shift,    \
                                T *rh, T *rn_picked, T *ru_mean, T *bend, long s, long h, long w, long c) {          \
        r_forward<T>(u, ru, n_picked, picked, pooled, scale, mean, rstd, r_scale, r_shift, rh, rn_picked, ru_mean,   \
                     bend, {s, h, w, c});                                                                            \
    }                                                                                                                \
    void block_r_backward_##NAME(const T *u, const T *ru, const T *n_picked, const T *rn_picked,                     \
                                 const uint8_t *picked, const T *pooled, const T *scale, const T *mean,              \
                                 const T *rstd, const T *r_scale, const T *ru_mean, const T *bend, const T *d,       \
                                 const T *rd, T *du, T *rdu, T *rd_scale, T *rd_shift, long s, long h, long w,       \
                                 long c) {                                                                           \
        r_backward<T>(u, ru, n_picked, rn_picked, picked, pooled, scale, mean, rstd, r_scale, ru_mean, bend, d, rd,  \
                      du, rdu, rd_scale, rd_shift, {s, h, w, c});                                                    \
    }

extern "C" {
EXPORT(float, f32)
EXPORT(double, f64)
}
