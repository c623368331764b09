// 3x3 convolutions of padding 1 and stride 1 or 2 by Winograd's minimal filtering F(4x4, 3x3), forward
// and backward, in bf16 with sums in fp32. After Lavin & Gray, "Fast Algorithms for Convolutional
// Neural Networks", 2015 (arXiv:1509.09308), whose letters name the matrices.
//
// Of every 6x6 input tile, a step of 4 apart, 36 sums are taken (B^T d B), of every filter 36 sums
// (G g G^T); their products, added over the input channels, give 4x4 outputs (A^T m A). That is 36
// multiplications where the definition takes 144. Each of the 36 positions is a matrix product. Of
// stride 2 one output of four is kept, which saves no multiplications.
//
// The matrices are those of the points 0, 2/3, -2/3, 3/2, -3/2 and infinity: with the usual 0, 1,
// -1, 2, -2 the error of bf16 is twice as large (2 % of a result against 0.9; bf16 itself: 0.2).
//
// Activations lie in channels_last order, (images, height, width, channels) in bf16, filters as
// (out, 3, 3, in) in fp32. All channels are multiples of 16. A word holds two bf16 values that
// vdpbf16ps multiplies with two others and adds up.
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
constexpr int64_t OWN_SUMS = 64 * 256;    // input times output channels that a thread sums alone
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

// c (rows, width) = or += a (rows, depth) b (depth, width), a and b in words of two values. Of a BLOCK
// words of each row lie together, rows A_ROW words apart, and the next words a_step further; row i of
// b starts at b[i * b_step]. Of single words (BLOCK 1), those a_next further are fetched
// meanwhile, for the next product.
struct Product {
    const uint32_t* a;
    int64_t a_step;
    const uint32_t* b;
    int64_t b_step;
    float* c;
    int64_t c_row, depth;
    bool add;
    int64_t a_next = 0;
};

template <int A_ROW, int BLOCK, int ROWS, int VECTORS>
void multiply(const Product& of) {
    Floats sums[ROWS][VECTORS];
    auto c = [&](int r, int n) { return of.c + r * of.c_row + n * LANES; };
    #pragma GCC unroll 24
    for (int r = 0; r < ROWS; ++r)
        for (int n = 0; n < VECTORS; ++n)
            sums[r][n] = of.add ? _mm512_loadu_ps(c(r, n)) : _mm512_setzero_ps();
    const uint32_t *a = of.a, *b = of.b;
    for (int64_t i = 0; i < of.depth; i += BLOCK, a += of.a_step) {
        #pragma GCC unroll 8
        for (int k = 0; k < BLOCK; ++k, b += of.b_step) {
            if (BLOCK == 1) _mm_prefetch((const char*)(a + of.a_next), _MM_HINT_T0);
            __m512bh right[VECTORS];
            for (int n = 0; n < VECTORS; ++n) right[n] = (__m512bh)_mm512_loadu_si512(b + n * LANES);
            #pragma GCC unroll 24
            for (int r = 0; r < ROWS; ++r) {
                const __m512bh left = (__m512bh)_mm512_set1_epi32(a[r * A_ROW + k]);
                for (int n = 0; n < VECTORS; ++n)
                    sums[r][n] = _mm512_dpbf16_ps(sums[r][n], left, right[n]);
            }
        }
    }
    #pragma GCC unroll 24
    for (int r = 0; r < ROWS; ++r)
        for (int n = 0; n < VECTORS; ++n) _mm512_storeu_ps(c(r, n), sums[r][n]);
}

// In passes of ROWS rows, the rest in passes of fewer.
template <int A_ROW, int BLOCK, int ROWS, int VECTORS>
void multiply_rows(Product of, int64_t rows) {
    for (; rows >= ROWS; rows -= ROWS, of.a += ROWS * A_ROW, of.c += ROWS * of.c_row)
        multiply<A_ROW, BLOCK, ROWS, VECTORS>(of);
    if constexpr (ROWS > 1) {
        if (rows) multiply_rows<A_ROW, BLOCK, ROWS % 3 ? ROWS / 2 : ROWS / 3 * 2, VECTORS>(of, rows);
    }
}

// As many rows at a time as the 32 registers have room for.
template <int A_ROW, int BLOCK>
void multiply(const Product& of, int64_t rows, int64_t width) {
    if (width == 4 * LANES) multiply_rows<A_ROW, BLOCK, 6, 4>(of, rows);
    else if (width == 2 * LANES) multiply_rows<A_ROW, BLOCK, 12, 2>(of, rows);
    else multiply_rows<A_ROW, BLOCK, 24, 1>(of, rows);
}

// How many of the channels are computed at a time.
int64_t panel(int64_t channels) {
    return channels % (4 * LANES) == 0 ? 4 * LANES : channels % (2 * LANES) == 0 ? 2 * LANES : LANES;
}

// The filters' sums as words (36, out / panel, in / 2, panel). With `turned` (36, in / panel, out / 2,
// panel): of the filters turned by 180 degrees, in and out exchanged, which take the gradient of the
// output to that of the input. To be called by all threads.
void pack(const float* weight, uint32_t* packed, int64_t out, int64_t in, bool turned) {
    const int64_t width = panel(turned ? in : out);
    #pragma omp for collapse(2)
    for (int64_t o = 0; o < out; o += 2)
        for (int64_t c = 0; c < in; c += LANES) {
            Floats u[2][POSITIONS];
            for (int64_t s = 0; s < 2; ++s) {
                Floats g[9];
                for (int64_t i = 0; i < 9; ++i)
                    g[turned ? 8 - i : i] = _mm512_loadu_ps(weight + ((o + s) * 9 + i) * in + c);
                transform<Filter, 3, INPUTS>(g, 1, u[s]);
            }
            for (int64_t p = 0; p < POSITIONS; ++p) {
                if (turned) {
                    uint32_t* to = packed + p * out * in / 2 + c / width * width * out / 2;
                    store_words(to + o / 2 * width + c % width, u[0][p], u[1][p]);
                    continue;
                }
                uint32_t words[2][LANES / 2];
                for (int64_t s = 0; s < 2; ++s)
                    _mm256_storeu_si256((__m256i*)words[s], narrow(u[s][p]));
                uint32_t* to = packed + p * out * in / 2 + o / width * width * in / 2 + o % width;
                for (int64_t i = 0; i < LANES / 2; ++i)
                    for (int64_t s = 0; s < 2; ++s) to[(c / 2 + i) * width + s] = words[s][i];
            }
        }
}

}  // namespace

// All activations begin at a multiple of 32 bytes, as torch's do.
extern "C" {

// y (n, h, w, out) of x (n, h, w, in). With `y_winners` y is pooled, (n, h / 2, w / 2, out); of `stride`
// 2 it is (n, (h + 1) / 2, (w + 1) / 2, out). With `turned` x is the gradient of the output and y that of
// the input, of a convolution of out to in channels; with `x_winners` that output was pooled.
void winograd_forward(const uint16_t* x, const uint8_t* x_winners, const float* weight, uint16_t* y,
                      uint8_t* y_winners, int64_t n, int64_t h, int64_t w, int64_t in, int64_t out,
                      int64_t stride, int turned) {
    const Plane plane(n, h, w);
    const Source source{x, x_winners, reduction(x_winners, turned ? stride : 1), n, in};
    const Target target{y, y_winners, reduction(y_winners, turned ? 1 : stride), out};
    const int64_t width = panel(out), blocks = (plane.tiles + TILES - 1) / TILES;
    const int64_t v_stride = TILES * in + LINE / 2, m_stride = TILES * width + LINE / 4;
    const Buffer<uint32_t> packed(POSITIONS * in * out / 2);
    #pragma omp parallel
    {
        const Buffer<uint16_t> v(POSITIONS * v_stride);
        const Buffer<float> m(POSITIONS * m_stride);
        pack(weight, packed.data, turned ? in : out, turned ? out : in, turned);
        #pragma omp for
        for (int64_t block = 0; block < blocks; ++block) {
            const int64_t first = block * TILES, count = std::min(TILES, plane.tiles - first);
            source.read<Input, INPUTS, 1>(
                plane, first, count,
                [v_stride, to = v.data](int64_t t, int64_t c, int64_t p, const Floats* sums) {
                    store(to + p * v_stride + c * TILES + t * LANES, sums[0]);
                });
            for (int64_t o = 0; o < out; o += width) {
                for (int64_t p = 0; p < POSITIONS; ++p)
                    multiply<LANES / 2, LANES / 2>(
                        {(const uint32_t*)(v + p * v_stride), TILES * LANES / 2,
                         packed + (p * out + o) * in / 2, width, m + p * m_stride, width, in / 2,
                         false}, count, width);
                target.write(plane, first, count, o, width, [&](int64_t t, int64_t c, Floats* values) {
                    const Floats* products = (const Floats*)(m + t * width + c);
                    transform<Output, INPUTS, OUTPUTS>(products, m_stride / LANES, values);
                });
            }
        }
        _mm_sfence();  // what was streamed is there for the other threads, too
    }
}

// The gradient of the filters, from x (n, h, w, in) and that of the output dy (n, h, w, out) or, with
// `winners`, of the pooled output, or of that of `stride` 2.
void winograd_weight_gradient(const uint16_t* x, const uint16_t* dy, const uint8_t* winners,
                              float* dweight, int64_t n, int64_t h, int64_t w, int64_t in,
                              int64_t out, int64_t stride) {
    // A word holds the sums of the same tile of two images.
    const Plane plane((n + 1) / 2, h, w);
    const Source inputs{x, nullptr, NONE, n, in};
    const Source gradients{dy, winners, reduction(winners, stride), n, out};
    const int64_t threads = omp_get_max_threads(), size = POSITIONS * out * in;
    // Up to OWN_SUMS each thread sums up its own tiles, and the sums are added at the end, which is cheaper
    // than waiting for each other (measured with two threads). Beyond, all threads share one, and each
    // computes a part of it.
    const bool alone = out * in <= OWN_SUMS;
    const int64_t width = panel(in), pairs = plane.tiles;
    const int64_t chunk = std::max<int64_t>(PAIR_VALUES / (in + out), 64) * (alone ? 1 : threads);
    const int64_t v_stride = POSITIONS * in + LINE / 4, m_stride = POSITIONS * out + LINE / 4;
    const int64_t most_teams = alone ? threads : 1;
    // All sums of a tile lie together: written to 36 places far apart, they take up to twice as long.
    const auto words = [](uint32_t* to, int64_t of_tile, int64_t channels) {
        return [=](int64_t t, int64_t c, int64_t p, const Floats* sums) {
            store_words(to + t * of_tile + p * channels + c, sums[0], sums[1]);
        };
    };
    const Buffer<uint32_t> all_v(most_teams * chunk * v_stride);
    const Buffer<uint32_t> all_m(most_teams * chunk * m_stride);
    const Buffer<float> all_u(most_teams * size);
    #pragma omp parallel
    {
        const int64_t me = omp_get_thread_num(), together = omp_get_num_threads();
        const int64_t teams = alone ? together : 1, team = alone ? me : 0;
        const int64_t members = alone ? 1 : together, member = alone ? 0 : me;
        const int64_t begin = pairs * team / teams, end = pairs * (team + 1) / teams;
        uint32_t *v = all_v + team * chunk * v_stride, *m = all_m + team * chunk * m_stride;
        float* u = all_u + team * size;
        if (begin == end && !member) std::fill_n(u, size, 0.0f);
        for (int64_t first = begin; first < end; first += chunk) {
            const int64_t count = std::min(chunk, end - first);
            const int64_t mine = count * member / members;
            const int64_t share = count * (member + 1) / members - mine;
            inputs.read<Input, INPUTS, 2>(
                plane, first + mine, share, words(v + mine * v_stride, v_stride, in));
            gradients.read<OutputGradient, OUTPUTS, 2>(
                plane, first + mine, share, words(m + mine * m_stride, m_stride, out));
            if (!alone) {
                #pragma omp barrier
            }
            const int64_t panels = in / width, jobs = POSITIONS * panels;
            for (int64_t job = jobs * member / members; job < jobs * (member + 1) / members; ++job) {
                const int64_t p = job / panels, c = job % panels * width;
                multiply<1, 1>({m + p * out, m_stride, v + p * in + c, v_stride, u + p * out * in + c,
                          in, count, first > begin, out}, out, width);
            }
            if (!alone) {
                #pragma omp barrier
            }
        }
        #pragma omp barrier
        #pragma omp for
        for (int64_t o = 0; o < out; ++o)
            for (int64_t c = 0; c < in; c += LANES) {
                Floats sums[POSITIONS], g[9];
                for (int64_t p = 0; p < POSITIONS; ++p) {
                    const float* of_position = all_u + (p * out + o) * in + c;
                    sums[p] = _mm512_loadu_ps(of_position);
                    for (int64_t i = 1; i < teams; ++i)
                        sums[p] += _mm512_loadu_ps(of_position + i * size);
                }
                transform<FilterGradient, INPUTS, 3>(sums, 1, g);
                for (int64_t i = 0; i < 9; ++i) _mm512_storeu_ps(dweight + (o * 9 + i) * in + c, g[i]);
            }
    }
}

}
