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

    void step(long run, long, const T *w, const T *g, T, T *next) const {
        if (!rates)
            for (long k = 0; k < P; k++) next[k] = w[k] - lr * g[k];
        else
            for (long k = 0; k < P; k++) next[k] = w[k] - rates[run * P + k] * g[k];
    }

    void back(long run, long, const T *, const T *g, T *d, T *d_g) const {
        if (!rates)
            for (long k = 0; k < P; k++) d_g[k] = -lr * d[k];
        else
            for (long k = 0; k < P; k++) d_g[k] = -rates[run * P + k] * d[k];
        if (d_rates)
            for (long k = 0; k < P; k++) d_rates[run * P + k] -= d[k] * g[k];
    }
};

}  // namespace

#define EXPORT(T, NAME)                                                                    \
    void descent_##NAME(TASKS(T), double lr, const T *rates, T *d_rates) {                 \
        const auto all = GIVEN(T);                                                         \
        Descent<T> rule{T(lr), rates, d_rates, all.weights()};                             \
        meta_gradient(all, rule);                                                          \
    }

extern "C" {
EXPORT(float, f32)
EXPORT(double, f64)
}
