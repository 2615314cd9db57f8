// The step of lstm.h for all coordinates, one call each way.

#include "lstm.h"

#define EXPORT(T, NAME)                                                                                              \
    void lstm_##NAME(const T *x, const T *hidden, const T *cell, const T *theta, const T *gradient, const T *forget, \
                     const T *rate, const T *w, T *new_theta, T *new_hidden, T *new_cell, T *new_forget,             \
                     T *new_rate, long d, long units, long runs, long n, long stride) {                              \
        lstm_forward<T>({x, hidden, cell, theta, gradient, forget, rate}, w, new_theta, new_hidden, new_cell, new_forget, \
                   new_rate, d, units, runs, n, stride);                                                             \
    }                                                                                                                \
    void lstm_backward_##NAME(const T *x, const T *hidden, const T *cell, const T *theta, const T *gradient,         \
                              const T *forget, const T *rate, const T *w, const T *d_theta, const T *d_hidden,       \
                              const T *d_cell, const T *d_forget, const T *d_rate, T *dx, T *dh, T *dc, T *dt,       \
                              T *dg, T *df, T *dr, T *dw, long d, long units, long runs, long n, long stride) {      \
        lstm_backward<T>({x, hidden, cell, theta, gradient, forget, rate}, w, d_theta, d_hidden, d_cell, d_forget,        \
                    d_rate, {dx, dh, dc, dt, dg, df, dr}, dw, d, units, runs, n, stride);                            \
    }

extern "C" {
EXPORT(float, f32)
EXPORT(double, f64)
}
