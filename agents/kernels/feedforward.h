// The coordinate-wise network of an update rule: one small network applied to every weight of the base learner.
//
// Rows are units, columns are coordinates; networks of several runs lie one after the other, each with its own `n`
// columns out of `stride`. Forward passes keep nothing: backward computes the activations of a tile anew.

#pragma once

#include "lanes.h"

namespace {

// Feed-forward network: ReLU layers and a linear output, sizes[0] inputs to sizes[layers] = 1 outputs.
// Weights of a run: for each layer W [out, in], then b [out].
template <class T> struct Feedforward {
    Feedforward(const long *sizes, long layers) : sizes(sizes), layers(layers) {
        for (long l = 0; l < layers; l++) size += sizes[l + 1] * (sizes[l] + 1);
        for (long l = 0; l <= layers; l++) units += sizes[l];
    }

    // Activations of all layers of a tile, one after the other; the inputs are in place.
    void run(const T *w, T *h) const {
        const int L = lanes<T>();
        for (long l = 0; l < layers; l++) {
            const long in = sizes[l], out = sizes[l + 1];
            T *next = h + in * L;
            for (long o = 0; o < out; o++) fill(next + o * L, w[out * in + o]);
            times(w, in, h, next, out, in);
            if (l + 1 < layers)
                for (long k = 0; k < out * L; k++) next[k] = next[k] < 0 ? T(0) : next[k];
            w += out * (in + 1);
            h = next;
        }
    }

    void forward(const T *x, const T *w, T *y, long runs, long n, long stride) const {
        const int L = lanes<T>();
        Scratch<T> h(units * L);
        for (long r = 0; r < runs; r++)
            for (long c = 0; c < n; c += L) {
                const long have = n - c < L ? n - c : L;
                load<T>(h, x + r * n + c, stride, sizes[0], have);
                run(w + r * size, h);
                store<T>(h + (units - 1) * L, y + r * n + c, stride, 1, have);
            }
    }

    // dx [inputs, stride] and dw [runs, size] (added to) from dy [stride].
    void backward(const T *x, const T *w, const T *dy, T *dx, T *dw, long runs, long n, long stride) const {
        const int L = lanes<T>(), V = Vec<T>::width;
        Scratch<T> h(units * L), d(units * L), sums(size * V), transposed(size);
        for (long r = 0; r < runs; r++) {
            const T *weights = w + r * size;
            std::memset(sums, 0, size * V * sizeof(T));
            transpose(weights, transposed);
            for (long c = 0; c < n; c += L) {
                const long have = n - c < L ? n - c : L;
                load<T>(h, x + r * n + c, stride, sizes[0], have);
                run(weights, h);
                load<T>(d + (units - 1) * L, dy + r * n + c, stride, 1, have);
                tile_backward(transposed, h, d, sums);
                store<T>(d, dx + r * n + c, stride, sizes[0], have);
            }
            total<T>(sums, dw + r * size, size);
        }
    }

    void tile_backward(const T *transposed, const T *h, T *d, T *sums) const {
        const int L = lanes<T>(), V = Vec<T>::width;
        long first = units, w = size;
        for (long l = layers - 1; l >= 0; l--) {
            const long in = sizes[l], out = sizes[l + 1];
            first -= out;
            w -= out * (in + 1);
            T *dy = d + first * L, *dx = dy - in * L;
            const T *y = h + first * L, *x = y - in * L;
            if (l + 1 < layers)
                for (long k = 0; k < out * L; k++) dy[k] = y[k] > 0 ? dy[k] : T(0);
            outer_products(sums + w * V, in, dy, x, out, in);
            for (long o = 0; o < out; o++)
                for (int v = 0; v < VECS; v++) at(sums + (w + out * in + o) * V, 0) += at(dy + o * L, v);
            std::memset(dx, 0, in * L * sizeof(T));
            times(transposed + w, out, dy, dx, in, out);
        }
    }

    void transpose(const T *w, T *to) const {
        for (long l = 0; l < layers; l++) {
            const long in = sizes[l], out = sizes[l + 1];
            for (long o = 0; o < out; o++)
                for (long i = 0; i < in; i++) to[i * out + o] = w[o * in + i];
            w += out * (in + 1), to += out * (in + 1);
        }
    }

    const long *sizes;
    long layers, size = 0, units = 0;
};

}  // namespace
