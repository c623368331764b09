// Batch norm, addition of the shortcut and ReLU in two passes over memory, forward and backward.
//
// Activations lie in channels_last order: `rows` pixels of `channels` values. Sixty-four values are
// handled at a time: several pixels of few channels, or a part of one pixel of many. The second
// pass runs through each thread's lines from the end, where the first has left them in the cache.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "shares.h"
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace {

constexpr int64_t LANES = 16, GROUP = 4, BLOCK = LANES * GROUP, CHUNK = 64;
constexpr int64_t PARTS = 8;  // that each thread's share is cut into
typedef float Floats __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef double Doubles __attribute__((vector_size(128)));
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
#ifdef __AVX512BF16__
    _mm256_storeu_si256((__m256i*)p, (__m256i)_mm512_cvtneps_pbh(v));
#else
    Words w = (Words)v;
    w += 0x7fff + ((w >> 16) & 1);
    Halves h = __builtin_convertvector(w >> 16, Halves);
    std::memcpy(p, &h, sizeof h);
#endif
}

// `v` where `of` is positive or not a number, else 0: as PyTorch's ReLU, NaN stays.
inline Floats positive(Floats of, Floats v) { return of <= 0 ? Floats{} : v; }

// How (rows, channels) is cut: `height` lines of `width` values, a multiple of BLOCK, in chunks of lines
// and parts of chunks.
struct Plan {
    int64_t channels, width, height, chunks, parts;
    Plan(int64_t rows, int64_t channels)
        : channels(channels), width(std::max(channels, BLOCK)), height(rows * channels / width),
          chunks((height + CHUNK - 1) / CHUNK), parts(std::min(chunks, PARTS * omp_get_max_threads())) {}

    int64_t first_chunk(int64_t part) const { return chunks * part / parts; }

    std::vector<float> spread(const float* per_channel) const {
        std::vector<float> lanes(width);
        for (int64_t i = 0; i < width; ++i) lanes[i] = per_channel[i % channels];
        return lanes;
    }
};

// `of(column)` gives a function that adds to two sums a lane, given where a block of 64 values of that
// column begins; the sums of all blocks, for each channel: (2, channels).
template <class Of>
std::vector<double> two_sums(const Plan& plan, Of of) {
    const int64_t size = 2 * plan.width / LANES;
    std::vector<Doubles> of_parts(plan.parts * size);
    Shares shares(plan.parts);
    #pragma omp parallel
    shares.each([&](int64_t part) {
        Doubles* const lanes = &of_parts[part * size];
        for (int64_t chunk = plan.first_chunk(part); chunk < plan.first_chunk(part + 1); ++chunk) {
            const int64_t top = chunk * CHUNK, bottom = std::min(top + CHUNK, plan.height);
            for (int64_t column = 0; column < plan.width; column += BLOCK) {
                Floats a[GROUP] = {}, b[GROUP] = {};
                const auto add = of(column);
                for (int64_t line = top; line < bottom; ++line) add(line * plan.width + column, a, b);
                for (int64_t g = 0; g < GROUP; ++g) {
                    lanes[column / LANES + g] += __builtin_convertvector(a[g], Doubles);
                    lanes[(plan.width + column) / LANES + g] += __builtin_convertvector(b[g], Doubles);
                }
            }
        }
    });
    // In the parts' order, so that a resumed training repeats an unbroken one to the bit.
    for (int64_t part = 1; part < plan.parts; ++part)
        for (int64_t i = 0; i < size; ++i) of_parts[i] += of_parts[part * size + i];
    std::vector<double> sums(2 * plan.channels);
    for (int64_t i = 0; i < size * LANES; ++i)
        sums[i / plan.width * plan.channels + i % plan.channels] += of_parts[i / LANES][i % LANES];
    return sums;
}

// `of(column)` gives a function that is run where each block of that column begins.
template <class Of>
void each_block(const Plan& plan, Of of) {
    Shares shares(plan.parts);
    #pragma omp parallel
    shares.each<true>([&](int64_t part) {
        for (int64_t chunk = plan.first_chunk(part + 1) - 1; chunk >= plan.first_chunk(part); --chunk) {
            const int64_t top = chunk * CHUNK, bottom = std::min(top + CHUNK, plan.height);
            for (int64_t column = 0; column < plan.width; column += BLOCK) {
                const auto run = of(column);
                for (int64_t line = top; line < bottom; ++line) run(line * plan.width + column);
            }
        }
    });
}

// A block's values of something that each channel has, kept in registers.
struct Lanes {
    Floats values[GROUP];
    Lanes(const std::vector<float>& of, int64_t column) {
        for (int64_t g = 0; g < GROUP; ++g) values[g] = load(&of[column + g * LANES]);
    }
    Floats operator[](int64_t g) const { return values[g]; }
};

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
    const std::vector<double> sums = two_sums(plan, [=](int64_t) {
        return [=](int64_t at, Floats* a, Floats* b) {
            for (int64_t g = 0; g < GROUP; ++g) {
                const Floats v = load(x + at + g * LANES);
                a[g] += v;
                b[g] += v * v;
            }
        };
    });
    for (int64_t c = 0; c < channels; ++c) {
        const double m = sums[c] / rows;
        const double variance = std::max(sums[channels + c] / rows - m * m, 0.0);  // NaN stays
        const double inverse = 1 / std::sqrt(variance + eps);
        of.mean[c] = m;
        of.inverse[c] = inverse;
        of.scale[c] = weight[c] * inverse;
        of.shift[c] = bias[c] - m * weight[c] * inverse;
        running_mean[c] += momentum * (m - running_mean[c]);
        const double unbiased = variance * rows / std::max<int64_t>(rows - 1, 1);
        running_var[c] += momentum * (unbiased - running_var[c]);
    }
    const auto scale = plan.spread(of.scale), shift = plan.spread(of.shift);
    each_block(plan, [&](int64_t column) {
        return [=, a = Lanes(scale, column), b = Lanes(shift, column)](int64_t at) {
            for (int64_t g = 0; g < GROUP; ++g) {
                const int64_t i = at + g * LANES;
                Floats v = load(x + i) * a[g] + b[g];
                if (SKIP) v += load(skip + i);
                store(out + i, RELU ? positive(v, v) : v);
            }
        };
    });
}

// d1 and d2 are the gradients of the output's two uses (d2 may be null). With SKIP the gradient of
// the sum is written to dskip; without, it is computed again in the second pass. Where ReLU let the
// sum pass is read from `out`, which the next layer has just used; without SKIP it follows from x
// (and `out` may be null).
template <class T, bool SKIP, bool RELU>
void backward(const T* d1, const T* d2, const T* x, const T* out, T* dx, T* dskip, float* dweight,
              float* dbias, float* statistics, int64_t rows, int64_t channels) {
    const Plan plan(rows, channels);
    const Statistics of(statistics, channels);
    const auto mean = plan.spread(of.mean), scale = plan.spread(of.scale);
    const auto shift = plan.spread(of.shift);
    // The gradient of the norm's output where x is v.
    auto gradient = [&](int64_t column) {
        return [=, a = Lanes(scale, column), b = Lanes(shift, column)](int64_t i, int64_t g, Floats v) {
            Floats d = load(d1 + i);
            if (d2) d += load(d2 + i);
            return RELU ? positive(SKIP ? load(out + i) : v * a[g] + b[g], d) : d;
        };
    };
    const std::vector<double> sums = two_sums(plan, [&](int64_t column) {
        return [=, m = Lanes(mean, column), gradient = gradient(column)](int64_t at, Floats* a, Floats* b) {
            for (int64_t g = 0; g < GROUP; ++g) {
                const int64_t i = at + g * LANES;
                const Floats v = load(x + i), d = gradient(i, g, v);
                if (SKIP) store(dskip + i, d);
                a[g] += d;
                b[g] += d * (v - m[g]);
            }
        };
    });
    std::vector<float> of_x(channels), constant(channels);
    for (int64_t c = 0; c < channels; ++c) {
        const double sum = sums[c], product = sums[channels + c], inverse = of.inverse[c];
        dbias[c] = sum;
        dweight[c] = product * inverse;
        of_x[c] = -of.scale[c] * inverse * inverse * product / rows;
        constant[c] = -of.scale[c] * sum / rows - of_x[c] * of.mean[c];
    }
    const auto of_x_lanes = plan.spread(of_x.data()), constant_lanes = plan.spread(constant.data());
    each_block(plan, [&](int64_t column) {
        return [=, a = Lanes(scale, column), b = Lanes(of_x_lanes, column),
                c = Lanes(constant_lanes, column), gradient = gradient(column)](int64_t at) {
            for (int64_t g = 0; g < GROUP; ++g) {
                const int64_t i = at + g * LANES;
                const Floats v = load(x + i), d = SKIP ? load(dskip + i) : gradient(i, g, v);
                store(dx + i, d * a[g] + v * b[g] + c[g]);
            }
        };
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
void backward(const void* d1, const void* d2, const void* x, const void* out, void* dx, void* dskip,
              float* dweight, float* dbias, float* statistics, int64_t rows, int64_t channels,
              bool relu) {
    auto run = dskip ? (relu ? backward<T, true, true> : backward<T, true, false>)
                     : (relu ? backward<T, false, true> : backward<T, false, false>);
    run((const T*)d1, (const T*)d2, (const T*)x, (const T*)out, (T*)dx, (T*)dskip, dweight, dbias,
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

void norm_backward(const void* d1, const void* d2, const void* x, const void* out, void* dx,
                   void* dskip, float* dweight, float* dbias, float* statistics, int64_t rows,
                   int64_t channels, int relu, int bf16) {
    (bf16 ? backward<uint16_t> : backward<float>)(d1, d2, x, out, dx, dskip, dweight, dbias,
                                                  statistics, rows, channels, relu);
}

}
