// One step of the meta-learner LSTM for every weight of the base learner (agents/meta_lstm.py has the equations).
//
// Rows are units, columns are coordinates; several runs lie one after the other, each with its own `n` columns out of
// `stride`. Weights of a run: W [4 H, d + H] (input, forget, cell, output gates), b [4 H], then for the forget gate and
// the learning rate each: weights of the hidden state [H], theta and the previous gate, and a bias.

#pragma once

#include "lanes.h"

namespace {

template <class T> struct Bits;
template <> struct Bits<float> {
    typedef uint32_t integer;
    static constexpr float magic = 12582912.0f, high = 0.693145752f, low = 1.42860677e-06f, limit = 87.0f;
    static constexpr int bias = 127, shift = 23, terms = 6;
};
template <> struct Bits<double> {
    typedef uint64_t integer;
    static constexpr double magic = 6755399441055744.0, high = 0.69314718036912382, low = 1.9082149292705877e-10;
    static constexpr double limit = 708.0;
    static constexpr int bias = 1023, shift = 52, terms = 13;
};

// e^x = 2^k e^r with |r| <= ln(2) / 2; Taylor's series of e^r, which the compiler can run on vectors.
template <class T> inline T exponential(T x) {
    typedef Bits<T> B;
    x = x < -B::limit ? -B::limit : x > B::limit ? B::limit : x;
    T shifted = x * T(1.4426950408889634) + B::magic, k = shifted - B::magic;
    T r = (x - k * B::high) - k * B::low, p = 1;
    for (int t = B::terms; t > 0; t--) p = 1 + p * (r * (T(1) / T(t)));
    typename B::integer bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + B::bias) << B::shift;  // the low bits of x + magic are the integer k
    T scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

template <class T> inline void sigmoid(T *__restrict row, long n) {
    for (long k = 0; k < n; k++) row[k] = 1 / (1 + exponential(-row[k]));
}

// Near zero by its series, since there the difference would lose a float's digits.
template <class T> inline void tanh(T *__restrict row, long n) {
    const T near = sizeof(T) == 4 ? T(0.2) : T(0);
    for (long k = 0; k < n; k++) {
        const T x = row[k], s = x * x, far = 2 / (1 + exponential(-2 * x)) - 1;
        const T series = x * (1 + s * (T(-1 / 3.0) + s * (T(2 / 15.0) + s * T(-17 / 315.0))));
        row[k] = x < near && x > -near ? series : far;
    }
}

// The arrays of one step; each row of `stride` columns. Gradients have the same layout.
template <class T> struct Step {
    const T *x, *hidden, *cell, *theta, *gradient, *forget, *rate;
};

template <class T> struct Tile {
    explicit Tile(long d, long H) : L(lanes<T>()), d(d), H(H), seen((d + H) * L), cell(H * L), gates(4 * H * L),
        new_cell(H * L), squashed(H * L), tail((H + 3) * L), gradient(L), forget(L), rate(L) {}

    // tail: hidden [H], theta, previous forget gate, previous rate
    void run(const Step<T> &in, const T *w, long c, long stride, long have) {
        load<T>(seen, in.x + c, stride, d, have);
        load<T>(seen + d * L, in.hidden + c, stride, H, have);
        load<T>(cell, in.cell + c, stride, H, have);
        load<T>(gradient, in.gradient + c, stride, 1, have);
        load<T>(tail + H * L, in.theta + c, stride, 1, have);
        load<T>(tail + (H + 1) * L, in.forget + c, stride, 1, have);
        load<T>(tail + (H + 2) * L, in.rate + c, stride, 1, have);
        const T *b = w + 4 * H * (d + H);
        for (long g = 0; g < 4 * H; g++) fill<T>(gates + g * L, b[g]);
        times<T>(w, d + H, seen, gates, 4 * H, d + H);
        sigmoid<T>(gates, 2 * H * L);
        tanh<T>(gates + 2 * H * L, H * L);
        sigmoid<T>(gates + 3 * H * L, H * L);
        const T *i = gates, *f = i + H * L, *g = f + H * L, *o = g + H * L;
        for (long k = 0; k < H * L; k++) squashed[k] = new_cell[k] = f[k] * cell[k] + i[k] * g[k];
        tanh<T>(squashed, H * L);
        for (long k = 0; k < H * L; k++) tail[k] = o[k] * squashed[k];
        const T *second = b + 4 * H;
        gate(second, 0, forget);
        gate(second + H + 3, 1, rate);
    }

    // Gate `which` (0: forget, 1: rate) from the tail.
    void gate(const T *w, int which, T *out) {
        fill<T>(out, w[H + 2]);
        times<T>(w, H + 1, tail, out, 1, H + 1);
        const T *previous = tail + (H + 1 + which) * L;
        for (long l = 0; l < L; l++) out[l] += w[H + 1] * previous[l];
        sigmoid<T>(out, L);
    }

    const long L, d, H;
    Scratch<T> seen, cell, gates, new_cell, squashed, tail, gradient, forget, rate;
};

template <class T>
void lstm_forward(const Step<T> &in, const T *w, T *theta, T *hidden, T *cell, T *forget, T *rate, long d, long H, long runs,
             long n, long stride) {
    const long L = lanes<T>(), size = 4 * H * (d + H + 1) + 2 * (H + 3);
    Tile<T> t(d, H);
    Scratch<T> next(L);
    for (long r = 0; r < runs; r++)
        for (long c = r * n; c < (r + 1) * n; c += L) {
            const long have = (r + 1) * n - c < L ? (r + 1) * n - c : L;
            t.run(in, w + r * size, c, stride, have);
            for (long l = 0; l < L; l++) next[l] = t.forget[l] * t.tail[H * L + l] - t.rate[l] * t.gradient[l];
            store<T>(next, theta + c, stride, 1, have);
            store<T>(t.tail, hidden + c, stride, H, have);
            store<T>(t.new_cell, cell + c, stride, H, have);
            store<T>(t.forget, forget + c, stride, 1, have);
            store<T>(t.rate, rate + c, stride, 1, have);
        }
}

// Gradients `out` of the inputs and dw [runs, size] (added to) of the weights, from those of the five results.
template <class T>
void lstm_backward(const Step<T> &in, const T *w, const T *d_theta, const T *d_hidden, const T *d_cell, const T *d_forget,
              const T *d_rate, const Step<T> &out, T *dw, long d, long H, long runs, long n, long stride) {
    const long L = lanes<T>(), V = Vec<T>::width, in_rows = d + H, size = 4 * H * (in_rows + 1) + 2 * (H + 3);
    const long biases = 4 * H * in_rows, second = biases + 4 * H;
    Tile<T> t(d, H);
    Scratch<T> sums(size * V), transposed(4 * H * in_rows), d_gates(4 * H * L), d_seen(in_rows * L), dh(H * L),
        dc(H * L), dz(2 * L), row(L), up(5 * L);
    for (long r = 0; r < runs; r++) {
        const T *weights = w + r * size, *wf = weights + second, *wr = wf + H + 3;
        std::memset(sums, 0, size * V * sizeof(T));
        for (long g = 0; g < 4 * H; g++)
            for (long k = 0; k < in_rows; k++) transposed[k * 4 * H + g] = weights[g * in_rows + k];
        for (long c = r * n; c < (r + 1) * n; c += L) {
            const long have = (r + 1) * n - c < L ? (r + 1) * n - c : L;
            t.run(in, weights, c, stride, have);
            T *u_theta = up, *u_forget = up + L, *u_rate = up + 2 * L;
            load<T>(u_theta, d_theta + c, stride, 1, have);
            load<T>(u_forget, d_forget + c, stride, 1, have);
            load<T>(u_rate, d_rate + c, stride, 1, have);
            load<T>(dh, d_hidden + c, stride, H, have);
            load<T>(dc, d_cell + c, stride, H, have);
            const T *theta = t.tail + H * L;
            T *zf = dz, *zr = dz + L;
            for (long l = 0; l < L; l++) {
                zf[l] = (u_forget[l] + u_theta[l] * theta[l]) * t.forget[l] * (1 - t.forget[l]);
                zr[l] = (u_rate[l] - u_theta[l] * t.gradient[l]) * t.rate[l] * (1 - t.rate[l]);
            }
            const auto put = [&](const T *to) { store<T>(row, const_cast<T *>(to) + c, stride, 1, have); };
            for (long l = 0; l < L; l++) row[l] = u_theta[l] * t.forget[l] + wf[H] * zf[l] + wr[H] * zr[l];
            put(out.theta);
            for (long l = 0; l < L; l++) row[l] = -t.rate[l] * u_theta[l];
            put(out.gradient);
            for (long l = 0; l < L; l++) row[l] = wf[H + 1] * zf[l];
            put(out.forget);
            for (long l = 0; l < L; l++) row[l] = wr[H + 1] * zr[l];
            put(out.rate);
            for (int which = 0; which < 2; which++) {
                const T *z = dz + which * L;
                T *to = sums + (second + which * (H + 3)) * V;
                outer_products<T>(to, H + 3, z, t.tail, 1, H + 1);
                outer_products<T>(to + (H + 1) * V, H + 3, z, t.tail + (H + 1 + which) * L, 1, 1);
                for (int v = 0; v < VECS; v++) at(to + (H + 2) * V, 0) += at(z, v);
            }
            const T *i = t.gates, *f = i + H * L, *g = f + H * L, *o = g + H * L;
            T *di = d_gates, *df = di + H * L, *dg = df + H * L, *d_o = dg + H * L;
            T *h_row = dh, *c_row = dc;
            const T *s_row = t.squashed, *old_cell = t.cell;
            for (long u = 0; u < H; u++)
#pragma GCC ivdep
                for (long l = 0; l < L; l++) {
                    const long k = u * L + l;
                    const T h = h_row[k] + wf[u] * zf[l] + wr[u] * zr[l], s = s_row[k];
                    const T m = c_row[k] + h * o[k] * (1 - s * s);
                    d_o[k] = h * s * o[k] * (1 - o[k]);
                    di[k] = m * g[k] * i[k] * (1 - i[k]);
                    df[k] = m * old_cell[k] * f[k] * (1 - f[k]);
                    dg[k] = m * i[k] * (1 - g[k] * g[k]);
                    c_row[k] = m * f[k];
                }
            store<T>(dc, const_cast<T *>(out.cell) + c, stride, H, have);
            outer_products<T>(sums, in_rows, d_gates, t.seen, 4 * H, in_rows);
            for (long k = 0; k < 4 * H; k++)
                for (int v = 0; v < VECS; v++) at(sums + (biases + k) * V, 0) += at(d_gates + k * L, v);
            std::memset(d_seen, 0, in_rows * L * sizeof(T));
            times<T>(transposed, 4 * H, d_gates, d_seen, in_rows, 4 * H);
            store<T>(d_seen, const_cast<T *>(out.x) + c, stride, d, have);
            store<T>(d_seen + d * L, const_cast<T *>(out.hidden) + c, stride, H, have);
        }
        total<T>(sums, dw + r * size, size);
    }
}

}  // namespace
