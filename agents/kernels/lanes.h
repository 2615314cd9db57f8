// Vectors of coordinates ("lanes"), and the three products of a small weight matrix with them.
//
// A tile holds `rows` rows of LANES coordinates. All loops are over whole tiles; the last one is padded with zeros.

#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

// A vector is one register: GCC splits wider ones by way of memory, which is nine times as slow. ROWS of a tile, VECS
// vectors each, are summed at once: as many as the registers hold beside the operands.
#if defined(__AVX512F__)
constexpr int BYTES = 64, ROWS = 4;  // 32 registers
#elif defined(__AVX__)
constexpr int BYTES = 32, ROWS = 2;  // 16 registers
#elif defined(__SSE2__)
constexpr int BYTES = 16, ROWS = 2;  // 16 registers
#else
constexpr int BYTES = 16, ROWS = 4;  // NEON: 32 registers
#endif

template <class T> struct Vec {
    typedef T type __attribute__((vector_size(BYTES), aligned(sizeof(T)), may_alias));
    static constexpr int width = BYTES / sizeof(T);
};

constexpr int VECS = 4;  // vectors per row of a tile: few enough for a tile of activations to stay in the L1 cache

template <class T> constexpr int lanes() { return VECS * Vec<T>::width; }

// Aligned scratch memory.
template <class T> class Scratch {
  public:
    explicit Scratch(long n) : bytes_(n * sizeof(T) + BYTES) {}
    operator T *() {
        return reinterpret_cast<T *>((reinterpret_cast<uintptr_t>(bytes_.data()) + BYTES - 1) / BYTES * BYTES);
    }

  private:
    std::vector<char> bytes_;
};

template <class T> inline typename Vec<T>::type &at(T *row, int v) {
    return reinterpret_cast<typename Vec<T>::type *>(row)[v];
}
template <class T> inline const typename Vec<T>::type &at(const T *row, int v) {
    return reinterpret_cast<const typename Vec<T>::type *>(row)[v];
}

// y[O] += W[O, :] x, for O rows at once.
template <class T, int O> inline void rows_times(const T *w, long ldw, const T *x, T *y, long n_in) {
    const int L = lanes<T>();
    typename Vec<T>::type sum[O][VECS];
    for (int o = 0; o < O; o++)
        for (int v = 0; v < VECS; v++) sum[o][v] = at(y + o * L, v);
    for (long i = 0; i < n_in; i++)
        for (int o = 0; o < O; o++)
            for (int v = 0; v < VECS; v++) sum[o][v] += w[o * ldw + i] * at(x + i * L, v);
    for (int o = 0; o < O; o++)
        for (int v = 0; v < VECS; v++) at(y + o * L, v) = sum[o][v];
}

// y [n_out, LANES] += W [n_out, n_in] x [n_in, LANES]; row o of W begins at w + o * ldw.
template <class T> void times(const T *w, long ldw, const T *x, T *y, long n_out, long n_in) {
    const int L = lanes<T>();
    long o = 0;
    for (; o + ROWS <= n_out; o += ROWS) rows_times<T, ROWS>(w + o * ldw, ldw, x, y + o * L, n_in);
    for (; o < n_out; o++) rows_times<T, 1>(w + o * ldw, ldw, x, y + o * L, n_in);
}

template <class T, int O, int I> inline void outer(T *sums, long ld, const T *dy, const T *x) {
    const int W = Vec<T>::width, L = lanes<T>();
    typename Vec<T>::type sum[O][I];
    for (int o = 0; o < O; o++)
        for (int i = 0; i < I; i++) sum[o][i] = at(sums + (o * ld + i) * W, 0);
    for (int v = 0; v < VECS; v++)
        for (int o = 0; o < O; o++)
            for (int i = 0; i < I; i++) sum[o][i] += at(dy + o * L, v) * at(x + i * L, v);
    for (int o = 0; o < O; o++)
        for (int i = 0; i < I; i++) at(sums + (o * ld + i) * W, 0) = sum[o][i];
}

// sums [n_out, ld] of vectors += dy [n_out, LANES] x [n_in, LANES]^T, lane by lane; `total` adds the lanes up.
template <class T> void outer_products(T *sums, long ld, const T *dy, const T *x, long n_out, long n_in) {
    const int W = Vec<T>::width, L = lanes<T>();
    long o = 0;
    for (; o + 4 <= n_out; o += 4) {
        long i = 0;
        for (; i + ROWS <= n_in; i += ROWS) outer<T, 4, ROWS>(sums + (o * ld + i) * W, ld, dy + o * L, x + i * L);
        for (; i < n_in; i++) outer<T, 4, 1>(sums + (o * ld + i) * W, ld, dy + o * L, x + i * L);
    }
    for (; o < n_out; o++)
        for (long i = 0; i < n_in; i++) outer<T, 1, 1>(sums + (o * ld + i) * W, ld, dy + o * L, x + i * L);
}

// into [n] += the lanes of sums [n] added up.
template <class T> void total(const T *sums, T *into, long n) {
    for (long k = 0; k < n; k++) {
        T sum = 0;
        for (int l = 0; l < Vec<T>::width; l++) sum += sums[k * Vec<T>::width + l];
        into[k] += sum;
    }
}

template <class T> void fill(T *row, T value) {
    for (int l = 0; l < lanes<T>(); l++) row[l] = value;
}

// Tile [rows, LANES] from rows of `have` coordinates that lie `stride` apart; the rest is zero.
template <class T> void load(T *tile, const T *from, long stride, long rows, long have) {
    const int L = lanes<T>();
    for (long r = 0; r < rows; r++) {
        std::memcpy(tile + r * L, from + r * stride, have * sizeof(T));
        if (have < L) std::memset(tile + r * L + have, 0, (L - have) * sizeof(T));
    }
}

template <class T> void store(const T *tile, T *to, long stride, long rows, long have) {
    for (long r = 0; r < rows; r++) std::memcpy(to + r * stride, tile + r * lanes<T>(), have * sizeof(T));
}
