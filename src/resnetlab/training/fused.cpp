// Batch norm, addition of the shortcut and ReLU in two passes over memory, forward and backward.
//
// Activations lie in channels_last order: `rows` pixels of `channels` values. Sixty-four values are
// handled at a time: several pixels of few channels, or a part of one pixel of many. The second
// pass runs through each thread's rows from the end, where the first has left them in the cache.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include <omp.h>

namespace {

constexpr int64_t LANES = 16, GROUP = 4, BLOCK = LANES * GROUP, CHUNK = 64;
typedef float Floats __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef int32_t Mask __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));

inline Floats load(const float* p) {
    Floats v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

inline Floats load(const uint16_t* p) {  // bf16 is the upper half of a float
    Halves h;
    std::memcpy(&h, p, sizeof h);
    return (Floats)(__builtin_convertvector(h, Words) << 16);
}

inline void store(float* p, Floats v) { std::memcpy(p, &v, sizeof v); }

inline void store(uint16_t* p, Floats v) {  // to the nearest, ties to even
    Words w = (Words)v;
    w += 0x7fff + ((w >> 16) & 1);
    Halves h = __builtin_convertvector(w >> 16, Halves);
    std::memcpy(p, &h, sizeof h);
}

inline Floats where(Mask mask, Floats v) { return (Floats)((Mask)v & mask); }

// How (rows, channels) is cut: `height` lines of `width` values, a multiple of BLOCK.
struct Plan {
    int64_t channels, width, height, chunks;
    Plan(int64_t rows, int64_t channels)
        : channels(channels), width(std::max(channels, BLOCK)), height(rows * channels / width),
          chunks((height + CHUNK - 1) / CHUNK) {}

    std::vector<float> spread(const float* per_channel) const {
        std::vector<float> lanes(width);
        for (int64_t i = 0; i < width; ++i) lanes[i] = per_channel[i % channels];
        return lanes;
    }
};

// Runs `first(at, column, a, b)` over all blocks, which adds to two sums a lane, then `between` with
// the sums of each channel, then `second(at, column)` over all blocks.
template <class First, class Between, class Second>
void two_passes(const Plan& plan, First first, Between between, Second second) {
    std::vector<std::vector<double>> of_threads(omp_get_max_threads());
    #pragma omp parallel
    {
        const int64_t n = omp_get_num_threads(), me = omp_get_thread_num();
        const int64_t begin = plan.chunks * me / n, end = plan.chunks * (me + 1) / n;
        std::vector<double>& sums = of_threads[me];
        sums.resize(2 * plan.channels);
        for (int64_t chunk = begin; chunk < end; ++chunk) {
            const int64_t top = chunk * CHUNK, bottom = std::min(top + CHUNK, plan.height);
            for (int64_t column = 0; column < plan.width; column += BLOCK) {
                Floats a[GROUP] = {}, b[GROUP] = {};
                for (int64_t line = top; line < bottom; ++line)
                    first(line * plan.width + column, column, a, b);
                for (int64_t g = 0; g < GROUP; ++g)
                    for (int64_t lane = 0; lane < LANES; ++lane) {
                        const int64_t c = (column + g * LANES + lane) % plan.channels;
                        sums[c] += a[g][lane];
                        sums[plan.channels + c] += b[g][lane];
                    }
            }
        }
        #pragma omp barrier
        #pragma omp single
        {
            // In the threads' order, so that a resumed training repeats an unbroken one to the bit.
            std::vector<double> total = of_threads[0];
            for (int64_t t = 1; t < n; ++t)
                for (size_t i = 0; i < total.size(); ++i) total[i] += of_threads[t][i];
            between(total.data(), total.data() + plan.channels);
        }
        for (int64_t chunk = end - 1; chunk >= begin; --chunk) {
            const int64_t top = chunk * CHUNK, bottom = std::min(top + CHUNK, plan.height);
            for (int64_t column = 0; column < plan.width; column += BLOCK)
                for (int64_t line = top; line < bottom; ++line)
                    second(line * plan.width + column, column);
        }
    }
}

// Of each channel: mean, 1 / deviation, scale and shift; the norm is scale * x + shift.
struct Statistics {
    float *mean, *inverse, *scale, *shift;
    Statistics(float* p, int64_t channels)
        : mean(p), inverse(p + channels), scale(p + 2 * channels), shift(p + 3 * channels) {}
};

template <class T, bool SKIP, bool RELU>
void forward(const T* x, const T* skip, T* out, const float* weight, const float* bias,
             float* running_mean, float* running_var, float* statistics, int64_t rows,
             int64_t channels, double eps, double momentum) {
    const Plan plan(rows, channels);
    const Statistics of(statistics, channels);
    std::vector<float> scale, shift;
    two_passes(
        plan,
        [&](int64_t at, int64_t, Floats* a, Floats* b) {
            for (int64_t g = 0; g < GROUP; ++g) {
                const Floats v = load(x + at + g * LANES);
                a[g] += v;
                b[g] += v * v;
            }
        },
        [&](const double* sum, const double* squares) {
            for (int64_t c = 0; c < channels; ++c) {
                const double m = sum[c] / rows;
                const double variance = std::max(0.0, squares[c] / rows - m * m);
                const double inverse = 1 / std::sqrt(variance + eps);
                of.mean[c] = m;
                of.inverse[c] = inverse;
                of.scale[c] = weight[c] * inverse;
                of.shift[c] = bias[c] - m * weight[c] * inverse;
                running_mean[c] += momentum * (m - running_mean[c]);
                const double unbiased = variance * rows / std::max<int64_t>(rows - 1, 1);
                running_var[c] += momentum * (unbiased - running_var[c]);
            }
            scale = plan.spread(of.scale);
            shift = plan.spread(of.shift);
        },
        [&](int64_t at, int64_t column) {
            for (int64_t g = 0; g < GROUP; ++g) {
                const int64_t i = at + g * LANES, c = column + g * LANES;
                Floats v = load(x + i) * load(&scale[c]) + load(&shift[c]);
                if (SKIP) v += load(skip + i);
                store(out + i, RELU ? where(~(v <= 0), v) : v);  // NaN stays, as in PyTorch
            }
        });
}

// d1 and d2 are the gradients of the output's two uses (d2 may be null). With SKIP the gradient of
// the sum is written to dskip; without, it is computed again in the second pass.
template <class T, bool SKIP, bool RELU>
void backward(const T* d1, const T* d2, const T* x, const T* skip, T* dx, T* dskip, float* dweight,
              float* dbias, float* statistics, int64_t rows, int64_t channels) {
    const Plan plan(rows, channels);
    const Statistics of(statistics, channels);
    const auto mean = plan.spread(of.mean), scale = plan.spread(of.scale);
    const auto shift = plan.spread(of.shift);
    std::vector<float> of_x(channels), constant(channels);
    std::vector<float> of_x_lanes, constant_lanes;
    auto gradient = [&](int64_t i, int64_t c) {
        Floats d = load(d1 + i);
        if (d2) d += load(d2 + i);
        if (!RELU) return d;
        Floats z = load(x + i) * load(&scale[c]) + load(&shift[c]);
        if (SKIP) z += load(skip + i);
        return where(~(z <= 0), d);
    };
    two_passes(
        plan,
        [&](int64_t at, int64_t column, Floats* a, Floats* b) {
            for (int64_t g = 0; g < GROUP; ++g) {
                const int64_t i = at + g * LANES, c = column + g * LANES;
                const Floats d = gradient(i, c);
                if (SKIP) store(dskip + i, d);
                a[g] += d;
                b[g] += d * (load(x + i) - load(&mean[c]));
            }
        },
        [&](const double* sum, const double* products) {
            for (int64_t c = 0; c < channels; ++c) {
                const double inverse = of.inverse[c];
                dbias[c] = sum[c];
                dweight[c] = products[c] * inverse;
                of_x[c] = -of.scale[c] * inverse * inverse * products[c] / rows;
                constant[c] = -of.scale[c] * sum[c] / rows - of_x[c] * of.mean[c];
            }
            of_x_lanes = plan.spread(of_x.data());
            constant_lanes = plan.spread(constant.data());
        },
        [&](int64_t at, int64_t column) {
            for (int64_t g = 0; g < GROUP; ++g) {
                const int64_t i = at + g * LANES, c = column + g * LANES;
                const Floats d = SKIP ? load(dskip + i) : gradient(i, c);
                store(dx + i, d * load(&scale[c]) + load(x + i) * load(&of_x_lanes[c])
                                  + load(&constant_lanes[c]));
            }
        });
}

template <class T>
void forward(const void* x, const void* skip, void* out, const float* weight, const float* bias,
             float* running_mean, float* running_var, float* statistics, int64_t rows,
             int64_t channels, double eps, double momentum, bool relu) {
    auto run = skip ? (relu ? forward<T, true, true> : forward<T, true, false>)
                    : (relu ? forward<T, false, true> : forward<T, false, false>);
    run((const T*)x, (const T*)skip, (T*)out, weight, bias, running_mean, running_var, statistics,
        rows, channels, eps, momentum);
}

template <class T>
void backward(const void* d1, const void* d2, const void* x, const void* skip, void* dx, void* dskip,
              float* dweight, float* dbias, float* statistics, int64_t rows, int64_t channels,
              bool relu) {
    auto run = skip ? (relu ? backward<T, true, true> : backward<T, true, false>)
                    : (relu ? backward<T, false, true> : backward<T, false, false>);
    run((const T*)d1, (const T*)d2, (const T*)x, (const T*)skip, (T*)dx, (T*)dskip, dweight, dbias,
        statistics, rows, channels);
}

}  // namespace

extern "C" {

void norm_forward(const void* x, const void* skip, void* out, const float* weight, const float* bias,
                  float* running_mean, float* running_var, float* statistics, int64_t rows,
                  int64_t channels, double eps, double momentum, int relu, int bf16) {
    (bf16 ? forward<uint16_t> : forward<float>)(x, skip, out, weight, bias, running_mean, running_var,
                                                statistics, rows, channels, eps, momentum, relu);
}

void norm_backward(const void* d1, const void* d2, const void* x, const void* skip, void* dx,
                   void* dskip, float* dweight, float* dbias, float* statistics, int64_t rows,
                   int64_t channels, int relu, int bf16) {
    (bf16 ? backward<uint16_t> : backward<float>)(d1, d2, x, skip, dx, dskip, dweight, dbias,
                                                  statistics, rows, channels, relu);
}

}
