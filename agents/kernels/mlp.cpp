// The passes of mlp.h for B tasks with weights of their own, one call each.

#include "mlp.h"

#define EXPORT(T, NAME)                                                                                              \
    void mlp_forward_##NAME(const T *w, const T *x, T *acts, T *outputs, const long *sizes, long layers, long tasks, \
                            long rows) {                                                                             \
        MLP<T> m(sizes, layers, rows);                                                                               \
        for (long b = 0; b < tasks; b++)                                                                             \
            m.forward(w + b * m.weights, x + b * rows * sizes[0], acts + b * m.hidden,                               \
                      outputs + b * rows * sizes[layers]);                                                           \
    }                                                                                                                \
    void mlp_backward_##NAME(const T *w, const T *x, const T *acts, const T *d_outputs, T *g, const long *sizes,     \
                             long layers, long tasks, long rows) {                                                   \
        MLP<T> m(sizes, layers, rows);                                                                               \
        for (long b = 0; b < tasks; b++)                                                                             \
            m.backward(w + b * m.weights, x + b * rows * sizes[0], acts + b * m.hidden,                              \
                       d_outputs + b * rows * sizes[layers], g + b * m.weights);                                     \
    }                                                                                                                \
    void mlp_r_forward_##NAME(const T *w, const T *v, const T *x, const T *acts, T *r_acts, T *r_outputs,            \
                              const long *sizes, long layers, long tasks, long rows) {                               \
        MLP<T> m(sizes, layers, rows);                                                                               \
        for (long b = 0; b < tasks; b++)                                                                             \
            m.r_forward(w + b * m.weights, v + b * m.weights, x + b * rows * sizes[0], acts + b * m.hidden,          \
                        r_acts + b * m.hidden, r_outputs + b * rows * sizes[layers]);                                \
    }                                                                                                                \
    void mlp_r_backward_##NAME(const T *w, const T *v, const T *x, const T *acts, const T *r_acts,                   \
                               const T *d_outputs, const T *rd_outputs, T *g, const long *sizes, long layers,        \
                               long tasks, long rows) {                                                              \
        MLP<T> m(sizes, layers, rows);                                                                               \
        for (long b = 0; b < tasks; b++)                                                                             \
            m.r_backward(w + b * m.weights, v + b * m.weights, x + b * rows * sizes[0], acts + b * m.hidden,         \
                         r_acts + b * m.hidden, d_outputs + b * rows * sizes[layers],                                \
                         rd_outputs + b * rows * sizes[layers], g + b * m.weights);                                  \
    }

extern "C" {
EXPORT(float, f32)
EXPORT(double, f64)
}
