// The MLP's forward and backward passes for one task, and their changes along a direction.
//
// sizes[0] inputs, ReLU layers, sizes[layers] outputs. A task's weights [P] are W [out, in], then b [out], layer by
// layer; its activations are those of the hidden layers, one after the other, in rows padded to whole vectors.
// agents/networks/mlp_pass.py is the same in torch. Tasks are small: a layer of one task fits in the fastest cache.

#pragma once

#include <utility>

#include "lanes.h"

namespace {

// Rows are padded with zeros to whole vectors, so that every product runs on vectors.
template <class T> long padded(long n) { return (n + Vec<T>::width - 1) / Vec<T>::width * Vec<T>::width; }

// y [R, V vectors] += a [R, depth] b [depth, V vectors]; a's element (r, k) is a[r * row + k * column].
template <class T, int R, int V>
void tile(const T *a, long row, long column, const T *b, T *y, long depth, long ld) {
    constexpr int W = Vec<T>::width;
    typename Vec<T>::type sum[R][V];
    for (int r = 0; r < R; r++)
        for (int v = 0; v < V; v++) sum[r][v] = at(y + r * ld + v * W, 0);
    for (long k = 0; k < depth; k++)
        for (int r = 0; r < R; r++)
            for (int v = 0; v < V; v++) sum[r][v] += a[r * row + k * column] * at(b + k * ld + v * W, 0);
    for (int r = 0; r < R; r++)
        for (int v = 0; v < V; v++) at(y + r * ld + v * W, 0) = sum[r][v];
}

template <class T, int V>
void panel(const T *a, long row, long column, const T *b, T *y, long rows, long depth, long ld) {
    long r = 0;
    for (; r + 4 <= rows; r += 4) tile<T, 4, V>(a + r * row, row, column, b, y + r * ld, depth, ld);
    for (; r < rows; r++) tile<T, 1, V>(a + r * row, row, column, b, y + r * ld, depth, ld);
}

// y [rows, ld] += a [rows, depth] b [depth, ld], where y and b are padded to ld.
template <class T> void product(const T *a, long row, long column, const T *b, T *y, long rows, long depth, long ld) {
    constexpr int W = Vec<T>::width;
    for (long c = 0; c < ld;) {
        const long left = (ld - c) / W;
        if (left >= 3) panel<T, 3>(a, row, column, b + c, y + c, rows, depth, ld), c += 3 * W;
        else if (left == 2) panel<T, 2>(a, row, column, b + c, y + c, rows, depth, ld), c += 2 * W;
        else panel<T, 1>(a, row, column, b + c, y + c, rows, depth, ld), c += W;
    }
}

template <class T> void zero(T *y, long n) { std::memset(y, 0, n * sizeof(T)); }

// Zero where the activation h is not positive.
template <class T> void mask(T *__restrict d, const T *__restrict h, long n) {
    for (long k = 0; k < n; k++) d[k] = h[k] > 0 ? d[k] : T(0);
}

template <class T> struct MLP {
    MLP(const long *sizes, long layers, long rows) : sizes(sizes), layers(layers), rows(rows) {
        for (long l = 0; l <= layers; l++) {
            const long ld = padded<T>(sizes[l]);
            if (ld > wide) wide = ld;
            if (l < layers) weights += sizes[l + 1] * (sizes[l] + 1);
            if (l > 0 && l < layers) hidden += rows * ld;
        }
        scratch = Scratch<T>(wide * wide), maps = Scratch<T>(6 * rows * wide);
    }

    // Row-padded copy of `from` [rows, n].
    const T *copied(const T *from, T *to, long count, long n) const {
        const long ld = padded<T>(n);
        zero(to, count * ld);
        for (long r = 0; r < count; r++) std::memcpy(to + r * ld, from + r * n, n * sizeof(T));
        return to;
    }

    // y [rows, out] += x [rows, in] W^T; x's rows are ldx apart.
    void times_transposed(const T *x, long ldx, const T *w, T *y, long in, long out) {
        const long ld = padded<T>(out);
        for (long i = 0; i < in; i++) {
            T *__restrict to = scratch + i * ld;
            for (long o = 0; o < out; o++) to[o] = w[o * in + i];
            for (long o = out; o < ld; o++) to[o] = 0;
        }
        product<T>(x, ldx, 1, scratch, y, rows, in, ld);
    }

    // y [rows, in] += d [rows, out] W.
    void times(const T *d, const T *w, T *y, long in, long out) {
        product<T>(d, padded<T>(out), 1, copied(w, scratch, out, in), y, rows, out, padded<T>(in));
    }

    // dw [out, in] += d [rows, out]^T h [rows, in].
    void outer(const T *d, const T *h, T *dw, long in, long out) {
        const long ld = padded<T>(in);
        zero<T>(scratch, out * ld);
        product<T>(d, 1, padded<T>(out), h, scratch, out, rows, ld);
        for (long o = 0; o < out; o++)
            for (long i = 0; i < in; i++) dw[o * in + i] += scratch[o * ld + i];
    }

    void column_sums(const T *d, T *db, long out) const {
        for (long s = 0; s < rows; s++)
            for (long o = 0; o < out; o++) db[o] += d[s * padded<T>(out) + o];
    }

    void add_bias(const T *b, T *y, long out) const {
        for (long s = 0; s < rows; s++)
            for (long o = 0; o < out; o++) y[s * padded<T>(out) + o] += b[o];
    }

    void unpad(const T *y, T *to) const {
        const long out = sizes[layers];
        for (long s = 0; s < rows; s++) std::memcpy(to + s * out, y + s * padded<T>(out), out * sizeof(T));
    }

    T *map(int which) { return maps + which * rows * wide; }

    void forward(const T *w, const T *x, T *acts, T *outputs) {
        long ldx = sizes[0];
        for (long l = 0; l < layers; l++) {
            const long in = sizes[l], out = sizes[l + 1], n = rows * padded<T>(out);
            T *y = l + 1 < layers ? acts : map(0);
            zero(y, n);
            add_bias(w + out * in, y, out);
            times_transposed(x, ldx, w, y, in, out);
            if (l + 1 < layers)
                for (long k = 0; k < n; k++) y[k] = y[k] < 0 ? T(0) : y[k];
            x = y, ldx = padded<T>(out), acts += n, w += out * (in + 1);
        }
        unpad(map(0), outputs);
    }

    // Gradient g [P] (zero at first) from that of the outputs.
    void backward(const T *w, const T *x, const T *acts, const T *d_outputs, T *g) {
        const T *inputs = copied(x, map(0), rows, sizes[0]);
        T *d = map(1), *next = map(2);
        copied(d_outputs, d, rows, sizes[layers]);
        w += weights, g += weights, acts += hidden;
        for (long l = layers - 1; l >= 0; l--) {
            const long in = sizes[l], out = sizes[l + 1], n = rows * padded<T>(in);
            w -= out * (in + 1), g -= out * (in + 1);
            acts -= l ? n : 0;
            outer(d, l ? acts : inputs, g, in, out);
            column_sums(d, g + out * in, out);
            if (l == 0) break;
            zero(next, n);
            times(d, w, next, in, out);
            mask(next, acts, n);
            std::swap(d, next);
        }
    }

    // Changes of activations and outputs along the weights' change v.
    void r_forward(const T *w, const T *v, const T *x, const T *acts, T *r_acts, T *r_outputs) {
        long ldx = sizes[0];
        const T *rx = nullptr;
        for (long l = 0; l < layers; l++) {
            const long in = sizes[l], out = sizes[l + 1], n = rows * padded<T>(out);
            T *y = l + 1 < layers ? r_acts : map(0);
            zero(y, n);
            add_bias(v + out * in, y, out);
            times_transposed(x, ldx, v, y, in, out);
            if (rx) times_transposed(rx, ldx, w, y, in, out);
            if (l + 1 < layers) mask(y, acts, n);
            x = acts, rx = y, ldx = padded<T>(out), acts += n, r_acts += n;
            w += out * (in + 1), v += out * (in + 1);
        }
        unpad(map(0), r_outputs);
    }

    // The change of `backward`'s result, g [P] (zero at first).
    void r_backward(const T *w, const T *v, const T *x, const T *acts, const T *r_acts, const T *d_outputs,
                    const T *rd_outputs, T *g) {
        const T *inputs = copied(x, map(0), rows, sizes[0]);
        T *d = map(1), *next = map(2), *rd = map(3), *r_next = map(4);
        copied(d_outputs, d, rows, sizes[layers]);
        copied(rd_outputs, rd, rows, sizes[layers]);
        w += weights, v += weights, g += weights, acts += hidden, r_acts += hidden;
        for (long l = layers - 1; l >= 0; l--) {
            const long in = sizes[l], out = sizes[l + 1], n = rows * padded<T>(in);
            w -= out * (in + 1), v -= out * (in + 1), g -= out * (in + 1);
            acts -= l ? n : 0, r_acts -= l ? n : 0;
            outer(rd, l ? acts : inputs, g, in, out);
            column_sums(rd, g + out * in, out);
            if (l == 0) break;
            outer(d, r_acts, g, in, out);
            zero(next, n), zero(r_next, n);
            times(d, w, next, in, out);
            times(rd, w, r_next, in, out);
            times(d, v, r_next, in, out);
            mask(next, acts, n), mask(r_next, acts, n);
            std::swap(d, next), std::swap(rd, r_next);
        }
    }

    const long *sizes;
    long layers, rows, weights = 0, hidden = 0, wide = 0;
    Scratch<T> scratch{0}, maps{0};
};

}  // namespace
