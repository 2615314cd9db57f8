// The networks of feedforward.h, one call each.

#include "feedforward.h"

#define EXPORT(T, NAME)                                                                                              \
    void feedforward_##NAME(const T *x, const T *w, T *y, const long *sizes, long layers, long runs, long n,         \
                            long stride) {                                                                           \
        Feedforward<T>(sizes, layers).forward(x, w, y, runs, n, stride);                                             \
    }                                                                                                                \
    void feedforward_backward_##NAME(const T *x, const T *w, const T *dy, T *dx, T *dw, const long *sizes,           \
                                     long layers, long runs, long n, long stride) {                                  \
        Feedforward<T>(sizes, layers).backward(x, w, dy, dx, dw, runs, n, stride);                                   \
    }

extern "C" {
EXPORT(float, f32)
EXPORT(double, f64)
}
