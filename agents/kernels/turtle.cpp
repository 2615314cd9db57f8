// TURTLE (paper, Eq. 6 and 7) as the rule of inner_loop.h:
//
//   I_t = (g_t, m_t, t, loss_t) by choice,  y_t = network(I_t) for every weight,  u_t = alpha * y_t,  next = w + u_t
//   m_t: moving average of gradients, m_t = beta m_(t-1) + (1 - beta) g_t from m_0 = g_0,
//        or of updates, m_t = beta m_(t-1) + (1 - beta) u_(t-1) from m_0 = 0
//
// Backward the network's activations are computed anew from its inputs.

#include "feedforward.h"
#include "inner_loop.h"

namespace {

enum History { NONE, GRADIENTS, UPDATES };

template <class T> struct Turtle {
    Turtle(const Tasks<T> &a, const long *sizes, long layers, History history, double beta, bool time, bool loss,
           const T *weights, T *d_weights, const T *rates, T *d_rates)
        : net(sizes, layers), history(history), beta(T(beta)), time(time), loss(loss), weights(weights),
          d_weights(d_weights), rates(rates), d_rates(d_rates), P(a.weights()), steps(a.steps), inputs(sizes[0]),
          x_(steps * inputs * P), y_(steps * P), dx_(inputs * P), dy_(P), d_average_(P), d_update_(P) {}

    // The inputs of step t [inputs, P].
    T *at(long t) { return x_ + t * inputs * P; }

    void step(long run, long t, const T *w, const T *g, T now, T *next) {
        T *x = at(t), *y = y_ + t * P;
        std::memcpy(x, g, P * sizeof(T));
        long row = 1;
        if (history != NONE) {
            T *m = x + P * row++;
            const T *last = t ? at(t - 1) + P : nullptr, *u = t ? y_ + (t - 1) * P : nullptr;
            if (history == GRADIENTS)
                for (long k = 0; k < P; k++) m[k] = t ? beta * last[k] + (1 - beta) * g[k] : g[k];
            else
                for (long k = 0; k < P; k++)
                    m[k] = t ? beta * last[k] + (1 - beta) * (rates ? rates[run * P + k] * u[k] : u[k]) : T(0);
        }
        if (time) std::fill(x + P * row, x + P * (row + 1), T(t)), row++;
        if (loss) std::fill(x + P * row, x + P * (row + 1), now);
        net.forward(x, weights + run * net.size, y, 1, P, P);
        for (long k = 0; k < P; k++) next[k] = w[k] + (rates ? rates[run * P + k] * y[k] : y[k]);
    }

    void back(long run, long t, const T *, const T *, T *d, T *d_g) {
        T *dx = dx_, *dy = dy_, *d_average = d_average_, *d_update = d_update_;
        const T *y = y_ + t * P;
        if (t == steps - 1) zero(d_average, P), zero(d_update, P);
        for (long k = 0; k < P; k++) {
            const T du = d[k] + d_update[k];
            if (d_rates) d_rates[run * P + k] += du * y[k];
            dy[k] = rates ? rates[run * P + k] * du : du;
        }
        net.backward(at(t), weights + run * net.size, dy, dx, d_weights + run * net.size, 1, P, P);
        std::memcpy(d_g, dx, P * sizeof(T));
        if (history == NONE) return;
        for (long k = 0; k < P; k++) {
            const T dm = dx[P + k] + d_average[k];
            if (history == GRADIENTS) d_g[k] += (t ? 1 - beta : T(1)) * dm;
            else d_update[k] = (1 - beta) * dm;
            d_average[k] = beta * dm;
        }
    }

    Feedforward<T> net;
    History history;
    T beta;
    bool time, loss;
    const T *weights;  // [runs, size]
    T *d_weights;
    const T *rates;  // [runs, P], or null
    T *d_rates;
    long P, steps, inputs;
    Scratch<T> x_, y_, dx_, dy_, d_average_, d_update_;
};

}  // namespace

#define EXPORT(T, NAME)                                                                                              \
    void turtle_##NAME(TASKS(T), double hidden, double units, double history, double beta, double time, double loss, \
                       const T *weights, T *d_weights, const T *rates, T *d_rates) {                                 \
        const auto all = GIVEN(T);                                                                                   \
        std::vector<long> net(long(hidden) + 2, long(units));                                                        \
        net.front() = 1 + (history > 0) + (time > 0) + (loss > 0), net.back() = 1;                                   \
        Turtle<T> rule(all, net.data(), long(hidden) + 1, History(int(history)), beta, time > 0, loss > 0, weights,  \
                       d_weights, rates, d_rates);                                                                   \
        meta_gradient(all, rule);                                                                                    \
    }

extern "C" {
EXPORT(float, f32)
EXPORT(double, f64)
}
