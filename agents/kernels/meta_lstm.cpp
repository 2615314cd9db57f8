// The meta-learner LSTM (lstm.h has its step) as the rule of inner_loop.h. What it reads is the gradient as it is, or
// loss and gradient preprocessed (Andrychowicz et al. 2016, Appendix A), p = 10:
//
//   (log(|x| + 1e-8) / p, sign x) where |x| >= e^-p, else (-1, e^p x)

#include "inner_loop.h"
#include "lstm.h"

namespace {

template <class T> struct MetaLSTM {
    MetaLSTM(const Tasks<T> &a, long units, bool raw, const T *weights, T *d_weights)
        : H(units), inputs(raw ? 1 : 4), P(a.weights()), steps(a.steps),
          size(4 * H * (inputs + H + 1) + 2 * (H + 3)), raw(raw), weights(weights), d_weights(d_weights),
          x_(steps * inputs * P), states_((steps + 1) * rows() * P), d_(rows() * P), d_new_(rows() * P), dx_(inputs * P),
          d_theta_(P) {}

    // A state is hidden [H], cell [H], forget gate and rate, in rows of P.
    long rows() const { return 2 * H + 2; }
    T *state(long t) { return states_ + t * rows() * P; }

    Step<T> before(long t, const T *w, const T *g) {
        const T *s = state(t);
        return {x_ + t * inputs * P, s, s + H * P, w, g, s + 2 * H * P, s + (2 * H + 1) * P};
    }

    void step(long run, long t, const T *w, const T *g, T loss, T *next) {
        T *x = x_ + t * inputs * P, *to = state(t + 1);
        if (t == 0) zero(state(0), rows() * P);
        if (raw) std::memcpy(x, g, P * sizeof(T));
        else {
            T of_loss[2];
            read(loss, of_loss[0], of_loss[1]);
            std::fill(x, x + P, of_loss[0]), std::fill(x + P, x + 2 * P, of_loss[1]);
            for (long k = 0; k < P; k++) read(g[k], x[2 * P + k], x[3 * P + k]);
        }
        lstm_forward<T>(before(t, w, g), weights + run * size, next, to, to + H * P, to + 2 * H * P,
                        to + (2 * H + 1) * P, inputs, H, 1, P, P);
    }

    void back(long run, long t, const T *w, const T *g, T *d, T *d_g) {
        T *of_next = d_, *of_this = d_new_, *dx = dx_, *d_theta = d_theta_;
        if (t == steps - 1) zero(of_next, rows() * P);
        const Step<T> into{dx, of_this, of_this + H * P, d_theta, d_g, of_this + 2 * H * P, of_this + (2 * H + 1) * P};
        lstm_backward<T>(before(t, w, g), weights + run * size, d, of_next, of_next + H * P, of_next + 2 * H * P,
                         of_next + (2 * H + 1) * P, into, d_weights + run * size, inputs, H, 1, P, P);
        std::memcpy(of_next, of_this, rows() * P * sizeof(T));
        std::memcpy(d, d_theta, P * sizeof(T));
        if (raw)
            for (long k = 0; k < P; k++) d_g[k] += dx[k];
        else
            for (long k = 0; k < P; k++) d_g[k] += slope(g[k], dx[2 * P + k], dx[3 * P + k]);
    }

    static bool large(T x) { return std::fabs(x) >= std::exp(T(-10)); }

    static void read(T x, T &size, T &sign) {
        size = large(x) ? std::log(std::fabs(x) + T(1e-8)) / 10 : T(-1);
        sign = large(x) ? T((x > 0) - (x < 0)) : std::exp(T(10)) * x;
    }

    // The gradient by x from those by what is read.
    static T slope(T x, T d_size, T d_sign) {
        return large(x) ? d_size * T((x > 0) - (x < 0)) / (std::fabs(x) + T(1e-8)) / 10 : std::exp(T(10)) * d_sign;
    }

    const long H, inputs, P, steps, size;
    const bool raw;
    const T *weights;  // [runs, size]
    T *d_weights;
    Scratch<T> x_, states_, d_, d_new_, dx_, d_theta_;
};

}  // namespace

#define EXPORT(T, NAME)                                                                                       \
    void meta_lstm_##NAME(TASKS(T), double units, double raw, const T *weights, T *d_weights) {               \
        const auto all = GIVEN(T);                                                                            \
        MetaLSTM<T> rule(all, long(units), raw > 0, weights, d_weights);                                      \
        meta_gradient(all, rule);                                                                             \
    }

extern "C" {
EXPORT(float, f32)
EXPORT(double, f64)
}
