// The meta-gradient of B tasks of an MLP through a whole inner loop (paper, Algorithm 1, lines 6 to 11), in one call.
//
//   w_0 = theta,  g_t = grad L_support(w_t),  w_(t+1) = rule(w_t, g_t);   d theta += d L_query(w_T) / d w_0
//
// Backward, from t = T - 1 on: the rule turns the gradient by w_(t+1) into those by w_t, g_t and its own parameters, and
// H_t times that by g_t is added to that by w_t (none in first order). A rule supplies two functions of one task:
//
//   step(run, t, w, g, loss, next): next = rule(w, g), which may see the loss as a constant
//   back(run, t, w, g, d, d_g): d, the gradient by next, becomes that by w; d_g is that by g; adds to its parameters' own
//
// Steps come in their order, and back in the reverse one, task by task. agents/engine/inner_loop.py with autograd is the
// same in torch.

#pragma once

#include <algorithm>
#include <cmath>

#include "mlp.h"

namespace {

// Mean squared error of values y [rows, n], or cross-entropy of labels y [rows], of one task.
template <class T> struct Loss {
    bool classes;
    long rows, n;

    // The loss; delta [rows, n] is its derivative by the outputs.
    T value(const T *outputs, const T *y, T *delta) const {
        T sum = 0;
        if (!classes) {
            for (long k = 0; k < rows * n; k++) {
                delta[k] = outputs[k] - y[k];
                sum += delta[k] * delta[k];
                delta[k] *= T(2) / T(rows * n);
            }
            return sum / T(rows * n);
        }
        for (long s = 0; s < rows; s++) {
            const T *o = outputs + s * n;
            T *p = delta + s * n, most = o[0], total = 0;
            for (long c = 1; c < n; c++) most = o[c] > most ? o[c] : most;
            for (long c = 0; c < n; c++) total += p[c] = std::exp(o[c] - most);
            const long label = long(y[s]);
            sum += std::log(total) + most - o[label];
            for (long c = 0; c < n; c++) p[c] = (p[c] / total - T(c == label)) / T(rows);
        }
        return sum / T(rows);
    }

    // Change of delta along the outputs' change r, at a point with this delta and labels y.
    void curvature(const T *delta, const T *y, const T *r, T *r_delta) const {
        if (!classes) {
            for (long k = 0; k < rows * n; k++) r_delta[k] = r[k] * (T(2) / T(rows * n));
            return;
        }
        for (long s = 0; s < rows; s++) {
            const T *d = delta + s * n, *change = r + s * n;
            T mean = 0;
            for (long c = 0; c < n; c++) mean += (d[c] * T(rows) + T(c == long(y[s]))) * change[c];
            for (long c = 0; c < n; c++)
                r_delta[s * n + c] = (d[c] * T(rows) + T(c == long(y[s]))) * (change[c] - mean) / T(rows);
        }
    }
};

// What does not depend on the rule: sizes, tasks, and where results go.
template <class T> struct Tasks {
    const T *theta;                           // [runs, P]
    const T *x, *y, *query_x, *query_y;       // [B, rows, ...]
    T *d_theta;                               // [runs, P], added to
    T *adapted, *inner_losses, *losses;       // [B, P], [B, steps], [B]: of the query
    T *predictions;                           // [B, queries, n]
    const long *sizes;
    long layers, tasks, runs, rows, queries, classes, steps, first_order;
    double inner_clip, task_clip;             // 0: none

    long weights() const {
        long n = 0;
        for (long l = 0; l < layers; l++) n += sizes[l + 1] * (sizes[l] + 1);
        return n;
    }
};

// A rule's export: its arguments are those of Tasks, then its own.
#define TASKS(T)                                                                                                     \
    const T *theta, const T *x, const T *y, const T *query_x, const T *query_y, T *d_theta, T *adapted,              \
        T *inner_losses, T *losses, T *predictions, const long *sizes, long layers, long tasks, long runs,           \
        long rows, long queries, long classes, long steps, long first_order, double inner_clip, double task_clip
#define GIVEN(T)                                                                                                     \
    Tasks<T> {                                                                                                       \
        theta, x, y, query_x, query_y, d_theta, adapted, inner_losses, losses, predictions, sizes, layers, tasks,    \
            runs, rows, queries, classes, steps, first_order, inner_clip, task_clip                                  \
    }

template <class T> T clipped(T value, T bound) { return value > bound ? bound : value < -bound ? -bound : value; }

template <class T, class Rule> void meta_gradient(const Tasks<T> &a, Rule &rule) {
    MLP<T> inner(a.sizes, a.layers, a.rows), outer(a.sizes, a.layers, a.queries);
    const long P = inner.weights, n = a.sizes[a.layers], T_ = a.steps;
    const long x_size = a.rows * a.sizes[0], out = a.rows * n;
    const Loss<T> support{a.classes != 0, a.rows, n}, query{a.classes != 0, a.queries, n};
    Scratch<T> w_(P * (T_ + 1)), g_(P * (T_ ? T_ : 1)), acts_(inner.hidden * (T_ ? T_ : 1)), deltas_(out * (T_ ? T_ : 1));
    Scratch<T> outputs_(out), r_acts_(inner.hidden), r_out_(out), r_delta_(out), query_acts_(outer.hidden);
    Scratch<T> query_delta_(a.queries * n), d_(P), d_g_(P);
    T *w = w_, *g = g_, *acts = acts_, *deltas = deltas_, *outputs = outputs_, *r_acts = r_acts_, *r_out = r_out_;
    T *r_delta = r_delta_, *query_acts = query_acts_, *query_delta = query_delta_, *d = d_, *d_g = d_g_;
    for (long b = 0; b < a.tasks; b++) {
        const long run = b / (a.tasks / a.runs), y_size = a.classes ? 1 : n;
        const T *x = a.x + b * x_size, *y = a.y + b * a.rows * y_size;
        const T *qx = a.query_x + b * a.queries * a.sizes[0], *qy = a.query_y + b * a.queries * y_size;
        std::memcpy(w, a.theta + run * P, P * sizeof(T));
        for (long t = 0; t < T_; t++) {
            T *grad = g + t * P;
            inner.forward(w + t * P, x, acts + t * inner.hidden, outputs);
            a.inner_losses[b * T_ + t] = support.value(outputs, y, deltas + t * out);
            zero(grad, P);
            inner.backward(w + t * P, x, acts + t * inner.hidden, deltas + t * out, grad);
            if (a.inner_clip > 0)
                for (long k = 0; k < P; k++) grad[k] = clipped(grad[k], T(a.inner_clip));
            rule.step(run, t, w + t * P, grad, a.inner_losses[b * T_ + t], w + (t + 1) * P);
        }
        std::memcpy(a.adapted + b * P, w + T_ * P, P * sizeof(T));
        outer.forward(w + T_ * P, qx, query_acts, a.predictions + b * a.queries * n);
        a.losses[b] = query.value(a.predictions + b * a.queries * n, qy, query_delta);
        zero(d, P);
        outer.backward(w + T_ * P, qx, query_acts, query_delta, d);
        for (long t = T_ - 1; t >= 0; t--) {
            const T *grad = g + t * P;
            rule.back(run, t, w + t * P, grad, d, d_g);
            if (a.first_order) continue;
            if (a.inner_clip > 0)
                for (long k = 0; k < P; k++) d_g[k] = std::fabs(grad[k]) < T(a.inner_clip) ? d_g[k] : T(0);
            const T *at = w + t * P, *act = acts + t * inner.hidden, *delta = deltas + t * out;
            inner.r_forward(at, d_g, x, act, r_acts, r_out);
            support.curvature(delta, y, r_out, r_delta);
            inner.r_backward(at, d_g, x, act, r_acts, delta, r_delta, d);
        }
        T *into = a.d_theta + run * P;
        if (a.task_clip > 0)
            for (long k = 0; k < P; k++) into[k] += clipped(d[k], T(a.task_clip));
        else
            for (long k = 0; k < P; k++) into[k] += d[k];
    }
}

}  // namespace
