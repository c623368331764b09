// What winograd.cpp's convolutions are made of: numbers, how images are cut into tiles, the transforms
// of a tile, where its pixels come from and go to.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include <immintrin.h>
#include <omp.h>

#ifndef __AVX512BF16__
#error "Winograd's convolutions need a processor with AVX-512 BF16"
#endif

namespace {

constexpr int64_t LANES = 16, POSITIONS = 36, OUTPUTS = 4, INPUTS = 6;
// Bytes of a cache line. The 36 matrices lie a line further apart than they are long: multiples of
// 4096 bytes apart they would all compete for the same places in the first cache.
constexpr int64_t LINE = 64;
constexpr int64_t TILES = 24;             // in a block, which one thread computes; 24 to 96 are as fast
constexpr int64_t PAIR_VALUES = 1 << 14;  // of tile pairs times channels in a thread's chunk
constexpr int64_t OWN_SUMS = 64 * 256;    // input times output channels up to which each part has a sum
constexpr int64_t MOST_PARTS = 4;         // with sums of their own, that a thread's share is cut into
typedef __m512 Floats;
typedef uint32_t Words __attribute__((vector_size(64)));

inline Floats widen(__m256i halves) {  // bf16 is the upper half of a float
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

inline __m256i narrow(Floats v) { return (__m256i)_mm512_cvtneps_pbh(v); }

inline Floats load(const uint16_t* p) { return widen(_mm256_loadu_si256((const __m256i*)p)); }

inline void store(uint16_t* p, Floats v) { _mm256_storeu_si256((__m256i*)p, narrow(v)); }

// Past the caches: memory that is written as a whole need not be read first.
inline void stream(uint16_t* p, Floats v) { _mm256_stream_si256((__m256i*)p, narrow(v)); }

// 16 words of a value of `low` and one of `high` each.
inline void store_words(uint32_t* p, Floats low, Floats high) {
    const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh(high, low);
    const Words lows = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, highs = lows + LANES;
    _mm512_storeu_si512(p, _mm512_permutexvar_epi16((__m512i)(lows | highs << 16), halves));
}

template <class T>
struct Buffer {
    T* data;
    explicit Buffer(int64_t n)
        : data((T*)std::aligned_alloc(LINE, (n * sizeof(T) + LINE - 1) / LINE * LINE)) {}
    ~Buffer() { std::free(data); }
    Buffer(const Buffer&) = delete;
    T* operator+(int64_t i) const { return data + i; }
};

// How images are cut into tiles of `step` x `step` pixels.
struct Plane {
    int64_t height, width, step, rows, columns, tiles;
    Plane(int64_t images, int64_t height, int64_t width)
        : height(height), width(width), step(OUTPUTS), rows((height + OUTPUTS - 1) / OUTPUTS),
          columns((width + OUTPUTS - 1) / OUTPUTS), tiles(images * rows * columns) {}

    // The same tiles where of each 2x2 pixels one is left; of those at an odd edge, with `all` too.
    Plane halved(bool all) const {
        Plane half(*this);
        half.height = (height + all) / 2;
        half.width = (width + all) / 2;
        half.step /= 2;
        return half;
    }

    // The tiles from `first` on as runs along a row of tiles: take(number, image, top, left, tiles) with
    // the first pixel of the first of them.
    template <class Take>
    void runs(int64_t first, int64_t count, Take take) const {
        for (int64_t t = 0, size; t < count; t += size) {
            const int64_t tile = first + t, row = tile / columns, column = tile % columns;
            size = std::min({count - t, columns - column, TILES});
            take(t, row / rows, row % rows * step, column * step, size);
        }
    }
};

constexpr float P = 2.0f / 3, Q = 1 / P, PP = P * P, QQ = Q * Q, PPP = PP * P, QQQ = QQ * Q;
constexpr float OF_P = 1 / (2 * PP * (PP - QQ)), OF_Q = 1 / (2 * QQ * (QQ - PP));

// The values at the points P, -P, Q and -Q, of which the even and the odd parts are known.
inline void at_points(Floats* y, int to, Floats even_p, Floats odd_p, Floats even_q, Floats odd_q) {
    y[to] = even_p + odd_p;
    y[2 * to] = even_p - odd_p;
    y[3 * to] = even_q + odd_q;
    y[4 * to] = even_q - odd_q;
}

// The transforms of one dimension: from values x, `from` apart, to values y, `to` apart.
struct Input {  // B^T, 6 to 6
    static inline void apply(const Floats* x, int from, Floats* y, int to) {
        const Floats x1 = x[from], x2 = x[2 * from], x3 = x[3 * from], x4 = x[4 * from];
        const Floats even_p = x4 - QQ * x2, odd_p = P * x3 - Q * x1;
        const Floats even_q = x4 - PP * x2, odd_q = Q * x3 - P * x1;
        y[0] = x[0] + x4 - (PP + QQ) * x2;
        at_points(y, to, even_p, odd_p, even_q, odd_q);
        y[5 * to] = x1 + x[5 * from] - (PP + QQ) * x3;
    }
};

// Said, not left to the compiler: what is pooled is rounded as what would have been written.
inline Floats multiply_add(float a, Floats b, Floats c) { return _mm512_fmadd_ps(_mm512_set1_ps(a), b, c); }

struct Output {  // A^T, 6 to 4
    static inline void apply(const Floats* x, int from, Floats* y, int to) {
        const Floats even_p = x[from] + x[2 * from], odd_p = x[from] - x[2 * from];
        const Floats even_q = x[3 * from] + x[4 * from], odd_q = x[3 * from] - x[4 * from];
        y[0] = x[0] + even_p + even_q;
        y[to] = multiply_add(P, odd_p, Q * odd_q);
        y[2 * to] = multiply_add(PP, even_p, QQ * even_q);
        y[3 * to] = multiply_add(PPP, odd_p, multiply_add(QQQ, odd_q, x[5 * from]));
    }
};

struct OutputGradient {  // A, 4 to 6
    static inline void apply(const Floats* x, int from, Floats* y, int to) {
        const Floats x0 = x[0], x1 = x[from], x2 = x[2 * from], x3 = x[3 * from];
        const Floats even_p = x0 + PP * x2, odd_p = P * x1 + PPP * x3;
        const Floats even_q = x0 + QQ * x2, odd_q = Q * x1 + QQQ * x3;
        y[0] = x0;
        at_points(y, to, even_p, odd_p, even_q, odd_q);
        y[5 * to] = x3;
    }
};

struct Filter {  // G, 3 to 6
    static inline void apply(const Floats* x, int from, Floats* y, int to) {
        const Floats x0 = x[0], x1 = x[from], x2 = x[2 * from];
        const Floats even_p = OF_P * (x0 + PP * x2), odd_p = OF_P * P * x1;
        const Floats even_q = OF_Q * (x0 + QQ * x2), odd_q = OF_Q * Q * x1;
        y[0] = x0;
        at_points(y, to, even_p, odd_p, even_q, odd_q);
        y[5 * to] = x2;
    }
};

struct FilterGradient {  // G^T, 6 to 3
    static inline void apply(const Floats* x, int from, Floats* y, int to) {
        const Floats even_p = OF_P * (x[from] + x[2 * from]), odd_p = x[from] - x[2 * from];
        const Floats even_q = OF_Q * (x[3 * from] + x[4 * from]), odd_q = x[3 * from] - x[4 * from];
        y[0] = x[0] + even_p + even_q;
        y[to] = OF_P * P * odd_p + OF_Q * Q * odd_q;
        y[2 * to] = PP * even_p + QQ * even_q + x[5 * from];
    }
};

// The transform of both dimensions, x (FROM, FROM), its values `from` apart, to y (TO, TO).
template <class Transform, int FROM, int TO>
inline void transform(const Floats* x, int from, Floats* y) {
    Floats half[FROM * TO];
    #pragma GCC unroll 6
    for (int i = 0; i < FROM; ++i) Transform::apply(x + i * FROM * from, from, half + i * TO, 1);
    for (int j = 0; j < TO; ++j) Transform::apply(half + j, TO, y + j, TO);
}

// How the pixels of a convolution become those of its output: 2x2 max pooling, whose winners are
// remembered, or, of stride 2, the first of each 2x2.
enum Reduction { NONE, POOL, STRIDE };

inline Reduction reduction(const uint8_t* winners, int64_t stride) {
    return winners ? POOL : stride == 2 ? STRIDE : NONE;
}

// Pixels in bf16 or, after a reduction, their gradients: each belongs to the pixel of the four that was
// taken.
struct Source {
    const uint16_t* x;
    const uint8_t* winners;
    Reduction reduction;
    int64_t images, channels;

    // Transforms the SIZE x SIZE pixels around each of `count` tiles, 16 channels at a time, of TOGETHER
    // images at a time; `take` is called with a tile's number, the first channel, the position and 16
    // sums of each image.
    template <class Transform, int SIZE, int TOGETHER, class Take>
    void read(const Plane& plane, int64_t first, int64_t count, Take take) const {
        switch (reduction) {
        case NONE: return read<Transform, SIZE, TOGETHER, NONE>(plane, first, count, take);
        case POOL: return read<Transform, SIZE, TOGETHER, POOL>(plane.halved(false), first, count, take);
        case STRIDE: read<Transform, SIZE, TOGETHER, STRIDE>(plane.halved(true), first, count, take);
        }
    }

    // The same of a reduced plane. Neighbouring tiles share columns of pixels, which are transformed
    // once.
    template <class Transform, int SIZE, int TOGETHER, Reduction BY, class Take>
    void read(const Plane& plane, int64_t first, int64_t count, Take take) const {
        constexpr int64_t BORDER = (SIZE - OUTPUTS) / 2, SHRINK = BY == NONE ? 1 : 2;
        Floats columns[TOGETHER][(TILES * OUTPUTS + 2 * BORDER) * INPUTS];
        // Copies: for all the compiler knows, a member could change with every store.
        const uint16_t* const x = this->x;
        const uint8_t* const winners = this->winners;
        const int64_t images = this->images, channels = this->channels, line = plane.width * channels;
        plane.runs(first, count, [&](int64_t t, int64_t image, int64_t top, int64_t left, int64_t run) {
            const uint16_t* lines[TOGETHER][SIZE];  // null outside of the image
            for (int64_t n = 0; n < TOGETHER; ++n)
                for (int64_t i = 0; i < SIZE; ++i) {
                    const int64_t row = top * SHRINK + i - BORDER, of = image * TOGETHER + n;
                    const bool inside = row >= 0 && row < plane.height * SHRINK && of < images;
                    lines[n][i] = inside ? x + (of * plane.height + row / SHRINK) * line : nullptr;
                }
            for (int64_t c = 0; c < channels; c += LANES) {
                // The next row of tiles: the processor does not foresee such short runs.
                const int64_t ahead = c % (LINE / 2) == 0 ? OUTPUTS / SHRINK * line : 0;
                for (int64_t n = 0; n < TOGETHER; ++n)
                    for (int64_t j = 0; j < run * OUTPUTS + 2 * BORDER; ++j) {
                        const int64_t column = left * SHRINK + j - BORDER;
                        const bool inside = column >= 0 && column < plane.width * SHRINK;
                        Floats values[SIZE] = {};
                        for (int64_t i = 0; i < SIZE; ++i) {
                            const int corner = (i + BORDER) % 2 * 2 + column % 2;
                            if (!inside || !lines[n][i] || (BY == STRIDE && corner)) continue;
                            const uint16_t* at = lines[n][i] + column / SHRINK * channels + c;
                            values[i] = load(at);
                            if (BY == POOL) values[i] = won(winners + (at - x), corner, values[i]);
                            if (ahead && i >= BORDER && i < BORDER + OUTPUTS)
                                _mm_prefetch((const char*)(at + ahead), _MM_HINT_T0);
                        }
                        Transform::apply(values, 1, columns[n] + j * INPUTS, 1);
                    }
                for (int64_t k = 0; k < run; ++k)
                    for (int64_t i = 0; i < INPUTS; ++i) {
                        Floats sums[INPUTS][TOGETHER];
                        for (int64_t n = 0; n < TOGETHER; ++n)
                            Transform::apply(columns[n] + k * OUTPUTS * INPUTS + i, INPUTS,
                                             sums[0] + n, TOGETHER);
                        for (int64_t j = 0; j < INPUTS; ++j) take(t + k, c, i * INPUTS + j, sums[j]);
                    }
            }
        });
    }

    // v where the winner was the pixel in this corner of its 2x2, else 0.
    static Floats won(const uint8_t* winners, int corner, Floats v) {
        const __m512i winner = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)winners));
        return _mm512_maskz_mov_ps(_mm512_cmpeq_epi32_mask(winner, _mm512_set1_epi32(corner)), v);
    }
};

// Where 4x4 outputs, or what is left of them, go, and which of 2x2 was the largest.
struct Target {
    uint16_t* y;
    uint8_t* winners;
    Reduction reduction;
    int64_t channels;

    // `give` is called with a tile's number and the first of each 16 of `width` channels from `first` on.
    template <class Give>
    void write(const Plane& plane, int64_t tile, int64_t count, int64_t first, int64_t width,
               Give give) const {
        switch (reduction) {
        case NONE: return write<NONE>(plane, tile, count, first, width, give);
        case POOL: return write<POOL>(plane.halved(false), tile, count, first, width, give);
        case STRIDE: write<STRIDE>(plane.halved(true), tile, count, first, width, give);
        }
    }

    // The same for a reduced plane.
    template <Reduction BY, class Give>
    void write(const Plane& plane, int64_t tile, int64_t count, int64_t first, int64_t width,
               Give give) const {
        constexpr int64_t SHRINK = BY == NONE ? 1 : 2, STEP = OUTPUTS / SHRINK;
        uint16_t* const y = this->y;  // copies, as in Source
        uint8_t* const winners = this->winners;
        const int64_t channels = this->channels, line = plane.width * channels;
        plane.runs(tile, count, [&](int64_t t, int64_t image, int64_t top, int64_t left, int64_t run) {
            for (int64_t k = 0; k < run; ++k, left += STEP) {
                const int64_t origin = (image * plane.height + top) * line + left * channels + first;
                const int64_t rows = plane.height - top, columns = plane.width - left;
                for (int64_t c = 0; c < width; c += LANES) {
                    Floats values[OUTPUTS * OUTPUTS];
                    give(t + k, c, values);
                    for (int64_t i = 0; i < STEP && i < rows; ++i)
                        for (int64_t j = 0; j < STEP && j < columns; ++j) {
                            const int64_t at = origin + i * line + j * channels + c;
                            const Floats* corner = values + SHRINK * (i * OUTPUTS + j);
                            stream(y + at, BY == POOL ? pool(corner, winners + at) : *corner);
                        }
                }
            }
        });
    }

    // The largest of 2x2; `who` becomes its number.
    static Floats pool(const Floats* corner, uint8_t* who) {
        Floats best = widen(narrow(corner[0]));  // as they would be compared
        __m512i winner = _mm512_setzero_si512();
        for (int j = 1; j < 4; ++j) {
            const Floats v = widen(narrow(corner[j / 2 * OUTPUTS + j % 2]));
            const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
            const __mmask16 larger = nan | _mm512_cmp_ps_mask(v, best, _CMP_GT_OQ);
            best = _mm512_mask_mov_ps(best, larger, v);
            winner = _mm512_mask_mov_epi32(winner, larger, _mm512_set1_epi32(j));
        }
        _mm_storeu_si128((__m128i*)who, _mm512_cvtepi32_epi8(winner));
        return best;
    }
};

}  // namespace
