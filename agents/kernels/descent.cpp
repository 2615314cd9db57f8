// Gradient descent as the rule of inner_loop.h, with one rate or a rate for every weight:
//
//   next = w - alpha * g;   back: d_g = -alpha * d,  d alpha -= d * g   (elementwise; d itself stays, since d next / d w = 1)

#include "inner_loop.h"

namespace {

template <class T> struct Descent {
    T lr;
    const T *rates;  // [runs, P]; null: lr for all
    T *d_rates;      // [runs, P], added to; null: not learned
    long P;

    void step(long run, long, const T *w, const T *g, T *next) const {
        if (!rates)
            for (long k = 0; k < P; k++) next[k] = w[k] - lr * g[k];
        else
            for (long k = 0; k < P; k++) next[k] = w[k] - rates[run * P + k] * g[k];
    }

    void back(long run, long, const T *, const T *g, const T *d, T *d_g) const {
        if (!rates)
            for (long k = 0; k < P; k++) d_g[k] = -lr * d[k];
        else
            for (long k = 0; k < P; k++) d_g[k] = -rates[run * P + k] * d[k];
        if (d_rates)
            for (long k = 0; k < P; k++) d_rates[run * P + k] -= d[k] * g[k];
    }
};

}  // namespace

#define EXPORT(T, NAME)                                                                                           \
    void descent_##NAME(const T *theta, const T *x, const T *y, const T *query_x, const T *query_y, T *d_theta,   \
                        T *adapted, T *inner_losses, T *losses, T *predictions, const long *sizes, long layers,   \
                        long tasks, long runs, long rows, long queries, long classes, long steps,                 \
                        long first_order, double inner_clip, double task_clip, double lr, const T *rates,         \
                        T *d_rates) {                                                                             \
        const Tasks<T> all{theta, x, y, query_x, query_y, d_theta, adapted, inner_losses, losses, predictions,    \
                           sizes, layers, tasks, runs, rows, queries, classes, steps, first_order, inner_clip,    \
                           task_clip};                                                                            \
        long weights = 0;                                                                                         \
        for (long l = 0; l < layers; l++) weights += sizes[l + 1] * (sizes[l] + 1);                               \
        Descent<T> rule{T(lr), rates, d_rates, weights};                                                          \
        meta_gradient(all, rule);                                                                                 \
    }

extern "C" {
EXPORT(float, f32)
EXPORT(double, f64)
}
