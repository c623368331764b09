// 3x3 convolutions of stride 1 and padding 1 by Winograd's minimal filtering F(4x4, 3x3), forward
// and backward, in bf16 with sums in fp32. After Lavin & Gray, "Fast Algorithms for Convolutional
// Neural Networks", 2015 (arXiv:1509.09308), whose letters name the matrices.
//
// Of every 6x6 input tile, a step of 4 apart, 36 sums are taken (B^T d B), of every filter 36 sums
// (G g G^T); their products, added over the input channels, give 4x4 outputs (A^T m A). That is 36
// multiplications where the definition takes 144. Each of the 36 positions is a matrix product.
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
constexpr int64_t MOST_CHANNELS = 1 << 14;
constexpr int64_t TILES = 24;             // in a block, which one thread computes; 24 to 96 are as fast
constexpr int64_t PAIR_VALUES = 1 << 13;  // of tile pairs times channels in a thread's chunk
constexpr int64_t OWN_SUMS = 64 * 64;     // input times output channels that a thread sums alone
typedef __m512 Floats;

inline Floats widen(__m256i halves) {  // bf16 is the upper half of a float
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

inline __m256i narrow(Floats v) { return (__m256i)_mm512_cvtneps_pbh(v); }

inline Floats load(const uint16_t* p) { return widen(_mm256_loadu_si256((const __m256i*)p)); }

inline void store(uint16_t* p, Floats v) { _mm256_storeu_si256((__m256i*)p, narrow(v)); }

inline void store_words(uint32_t* p, Floats low, Floats high) {
    const __m512i a = _mm512_cvtepu16_epi32(narrow(low)), b = _mm512_cvtepu16_epi32(narrow(high));
    _mm512_storeu_si512(p, _mm512_or_si512(a, _mm512_slli_epi32(b, 16)));
}

// The lower halves of 16 words (the upper ones become 0) or the upper ones.
inline void store_half(uint32_t* p, bool upper, Floats v) {
    __m512i words = _mm512_cvtepu16_epi32(narrow(v));
    if (upper) words = _mm512_or_si512(_mm512_loadu_si512(p), _mm512_slli_epi32(words, 16));
    _mm512_storeu_si512(p, words);
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

    // The same tiles after 2x2 max pooling.
    Plane pooled() const {
        Plane half(*this);
        half.height /= 2;
        half.width /= 2;
        half.step /= 2;
        return half;
    }

    // Where the SIZE x SIZE pixels around a tile start; those outside of the image at `outside`.
    template <int SIZE, class T>
    void pixels(T* x, int64_t channels, int64_t tile, T* outside, T** at) const {
        const int64_t border = (SIZE - step) / 2, image = tile / (rows * columns);
        const int64_t top = tile / columns % rows * step - border;
        const int64_t left = tile % columns * step - border;
        T* const corner = x + ((image * height + top) * width + left) * channels;
        for (int64_t i = 0; i < SIZE; ++i) {
            const bool row_inside = tile < tiles && top + i >= 0 && top + i < height;
            for (int64_t j = 0; j < SIZE; ++j) {
                const bool inside = row_inside && left + j >= 0 && left + j < width;
                at[i * SIZE + j] = inside ? corner + (i * width + j) * channels : outside;
            }
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

struct Output {  // A^T, 6 to 4
    static inline void apply(const Floats* x, int from, Floats* y, int to) {
        const Floats even_p = x[from] + x[2 * from], odd_p = x[from] - x[2 * from];
        const Floats even_q = x[3 * from] + x[4 * from], odd_q = x[3 * from] - x[4 * from];
        y[0] = x[0] + even_p + even_q;
        y[to] = P * odd_p + Q * odd_q;
        y[2 * to] = PP * even_p + QQ * even_q;
        y[3 * to] = PPP * odd_p + QQQ * odd_q + x[5 * from];
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

// The transform of both dimensions, x (FROM, FROM) to y (TO, TO).
template <class Transform, int FROM, int TO>
inline void transform(const Floats* x, Floats* y) {
    Floats half[FROM * TO];
    for (int i = 0; i < FROM; ++i) Transform::apply(x + i * FROM, 1, half + i * TO, 1);
    for (int j = 0; j < TO; ++j) Transform::apply(half + j, TO, y + j, TO);
}

// Pixels in bf16 or, where `winners` are given, the gradients of pixels of which 2x2 were pooled: each
// gradient belongs to the one of the four that was the largest.
struct Source {
    const uint16_t* x;
    const uint8_t* winners;
    int64_t channels;

    // The pixels (SIZE, SIZE) around a tile; `take` is called with the first of each 16 channels.
    template <int SIZE, class Take>
    void read(const Plane& plane, int64_t tile, Take take) const {
        static const uint16_t zeros[MOST_CHANNELS] = {};
        static const uint8_t nobody[MOST_CHANNELS] = {};
        Floats values[SIZE * SIZE];
        if (!winners) {
            const uint16_t* at[SIZE * SIZE];
            plane.pixels<SIZE>(x, channels, tile, zeros, at);
            for (int64_t c = 0; c < channels; c += LANES) {
                for (int i = 0; i < SIZE * SIZE; ++i) values[i] = load(at[i] + c);
                take(c, values);
            }
            return;
        }
        // Six pixels in a row are the second of a pair, two pairs, and the first of a pair.
        constexpr int CUT = SIZE == INPUTS, PAIRS = SIZE / 2 + CUT;
        const uint16_t* at[PAIRS * PAIRS];
        const uint8_t* who[PAIRS * PAIRS];
        const Plane half = plane.pooled();
        half.pixels<PAIRS>(x, channels, tile, zeros, at);
        half.pixels<PAIRS>(winners, channels, tile, nobody, who);
        for (int64_t c = 0; c < channels; c += LANES) {
            for (int i = 0; i < PAIRS * PAIRS; ++i) {
                const Floats v = load(at[i] + c);
                const __m128i bytes = _mm_loadu_si128((const __m128i*)(who[i] + c));
                const __m512i winner = _mm512_cvtepu8_epi32(bytes);
                for (int j = 0; j < 4; ++j) {
                    const int row = i / PAIRS * 2 + j / 2 - CUT, column = i % PAIRS * 2 + j % 2 - CUT;
                    if (row < 0 || row >= SIZE || column < 0 || column >= SIZE) continue;
                    const __mmask16 won = _mm512_cmpeq_epi32_mask(winner, _mm512_set1_epi32(j));
                    values[row * SIZE + column] = _mm512_maskz_mov_ps(won, v);
                }
            }
            take(c, values);
        }
    }
};

// Where 4x4 outputs go; where `winners` are given, the largest of each 2x2, and which of them it was.
struct Target {
    uint16_t* y;
    uint8_t* winners;
    int64_t channels;

    // `give` is called with the first of each 16 of `count` channels from `first` on.
    template <class Give>
    void write(const Plane& plane, int64_t tile, int64_t first, int64_t count, Give give) const {
        uint16_t outside[4 * LANES], *at[OUTPUTS * OUTPUTS];
        uint8_t nobody[4 * LANES], *who[4];
        Floats values[OUTPUTS * OUTPUTS];
        if (!winners) {
            plane.pixels<OUTPUTS>(y + first, channels, tile, outside, at);
            for (int64_t c = 0; c < count; c += LANES) {
                give(c, values);
                for (int i = 0; i < OUTPUTS * OUTPUTS; ++i) store(at[i] + c, values[i]);
            }
            return;
        }
        const Plane half = plane.pooled();
        half.pixels<2>(y + first, channels, tile, outside, at);
        half.pixels<2>(winners + first, channels, tile, nobody, who);
        for (int64_t c = 0; c < count; c += LANES) {
            give(c, values);
            for (Floats& value : values) value = widen(narrow(value));  // as they would be compared
            for (int i = 0; i < 4; ++i) {
                const Floats* corner = values + i / 2 * 2 * OUTPUTS + i % 2 * 2;
                Floats best = corner[0];
                __m512i winner = _mm512_setzero_si512();
                for (int j = 1; j < 4; ++j) {
                    const Floats v = corner[j / 2 * OUTPUTS + j % 2];
                    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
                    const __mmask16 larger = nan | _mm512_cmp_ps_mask(v, best, _CMP_GT_OQ);
                    best = _mm512_mask_mov_ps(best, larger, v);
                    winner = _mm512_mask_mov_epi32(winner, larger, _mm512_set1_epi32(j));
                }
                store(at[i] + c, best);
                _mm_storeu_si128((__m128i*)(who[i] + c), _mm512_cvtepi32_epi8(winner));
            }
        }
    }
};

// c (rows, width) = or += a (rows, depth) b (depth, width), a and b in words of two values: element
// (r, i) of a is a[r * a_row + i * a_step], row i of b starts at b[i * b_step].
struct Product {
    const uint32_t *a;
    int64_t a_row, a_step;
    const uint32_t *b;
    int64_t b_step;
    float *c;
    int64_t c_row, depth;
    bool add;
};

template <int ROWS, int VECTORS>
void multiply(const Product& of) {
    Floats sums[ROWS][VECTORS];
    auto c = [&](int r, int n) { return of.c + r * of.c_row + n * LANES; };
    for (int r = 0; r < ROWS; ++r)
        for (int n = 0; n < VECTORS; ++n)
            sums[r][n] = of.add ? _mm512_loadu_ps(c(r, n)) : _mm512_setzero_ps();
    const uint32_t *a = of.a, *b = of.b;
    for (int64_t i = 0; i < of.depth; ++i, a += of.a_step, b += of.b_step) {
        __m512bh right[VECTORS];
        for (int n = 0; n < VECTORS; ++n) right[n] = (__m512bh)_mm512_loadu_si512(b + n * LANES);
        for (int r = 0; r < ROWS; ++r) {
            const __m512bh left = (__m512bh)_mm512_set1_epi32(a[r * of.a_row]);
            for (int n = 0; n < VECTORS; ++n) sums[r][n] = _mm512_dpbf16_ps(sums[r][n], left, right[n]);
        }
    }
    for (int r = 0; r < ROWS; ++r)
        for (int n = 0; n < VECTORS; ++n) _mm512_storeu_ps(c(r, n), sums[r][n]);
}

// In passes of ROWS rows, the rest in passes of half as many.
template <int ROWS, int VECTORS>
void multiply_rows(Product of, int64_t rows) {
    for (; rows >= ROWS; rows -= ROWS, of.a += ROWS * of.a_row, of.c += ROWS * of.c_row)
        multiply<ROWS, VECTORS>(of);
    if constexpr (ROWS > 1) {
        if (rows) multiply_rows<ROWS / 2, VECTORS>(of, rows);
    }
}

// As many rows at a time as the 32 registers have room for.
void multiply(const Product& of, int64_t rows, int64_t width) {
    if (width == 4 * LANES) multiply_rows<6, 4>(of, rows);
    else if (width == 2 * LANES) multiply_rows<12, 2>(of, rows);
    else multiply_rows<16, 1>(of, rows);
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
                transform<Filter, 3, INPUTS>(g, u[s]);
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

extern "C" {

// y (n, h, w, out) of x (n, h, w, in). With `y_winners` y is pooled, (n, h / 2, w / 2, out). With
// `turned` x is the gradient of the output and y that of the input, of a convolution of out to in
// channels; with `x_winners` that output was pooled.
void winograd_forward(const uint16_t* x, const uint8_t* x_winners, const float* weight, uint16_t* y,
                      uint8_t* y_winners, int64_t n, int64_t h, int64_t w, int64_t in, int64_t out,
                      int turned) {
    const Plane plane(n, h, w);
    const Source source{x, x_winners, in};
    const Target target{y, y_winners, out};
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
            for (int64_t t = 0; t < count; ++t)
                source.read<INPUTS>(plane, first + t, [&](int64_t c, const Floats* values) {
                    Floats sums[POSITIONS];
                    transform<Input, INPUTS, INPUTS>(values, sums);
                    for (int64_t p = 0; p < POSITIONS; ++p)
                        store(v + p * v_stride + t * in + c, sums[p]);
                });
            for (int64_t o = 0; o < out; o += width) {
                for (int64_t p = 0; p < POSITIONS; ++p)
                    multiply({(const uint32_t*)(v + p * v_stride), in / 2, 1,
                              packed + (p * out + o) * in / 2, width,
                              m + p * m_stride, width, in / 2, false}, count, width);
                for (int64_t t = 0; t < count; ++t)
                    target.write(plane, first + t, o, width, [&](int64_t c, Floats* values) {
                        Floats products[POSITIONS];
                        for (int64_t p = 0; p < POSITIONS; ++p)
                            products[p] = _mm512_load_ps(m + p * m_stride + t * width + c);
                        transform<Output, INPUTS, OUTPUTS>(products, values);
                    });
            }
        }
    }
}

// The gradient of the filters, from x (n, h, w, in) and that of the output dy (n, h, w, out) or, with
// `winners`, of the pooled output.
void winograd_weight_gradient(const uint16_t* x, const uint16_t* dy, const uint8_t* winners,
                              float* dweight, int64_t n, int64_t h, int64_t w, int64_t in,
                              int64_t out) {
    const Plane plane(n, h, w);
    const Source inputs{x, nullptr, in}, gradients{dy, winners, out};
    const int64_t threads = omp_get_max_threads(), size = POSITIONS * out * in;
    // Sums of few channels fit a core's own cache: each thread has some, of its own tiles, which are
    // added at the end. Otherwise all threads share one, and each computes a part of it.
    const bool alone = out * in <= OWN_SUMS;
    const int64_t width = panel(in), pairs = (plane.tiles + 1) / 2;
    const int64_t chunk = std::max<int64_t>(PAIR_VALUES / (in + out), 64) * (alone ? 1 : threads);
    const int64_t v_stride = chunk * in + LINE / 4, m_stride = chunk * out + LINE / 4;
    const int64_t most_teams = alone ? threads : 1;
    const Buffer<uint32_t> all_v(most_teams * POSITIONS * v_stride);
    const Buffer<uint32_t> all_m(most_teams * POSITIONS * m_stride);
    const Buffer<float> all_u(most_teams * size);
    #pragma omp parallel
    {
        const int64_t me = omp_get_thread_num(), together = omp_get_num_threads();
        const int64_t teams = alone ? together : 1, team = alone ? me : 0;
        const int64_t members = alone ? 1 : together, member = alone ? 0 : me;
        const int64_t begin = pairs * team / teams, end = pairs * (team + 1) / teams;
        uint32_t *v = all_v + team * POSITIONS * v_stride, *m = all_m + team * POSITIONS * m_stride;
        float* u = all_u + team * size;
        if (begin == end && !member) std::fill_n(u, size, 0.0f);
        for (int64_t first = begin; first < end; first += chunk) {
            const int64_t count = std::min(chunk, end - first);
            for (int64_t t = count * member / members; t < count * (member + 1) / members; ++t)
                for (int half = 0; half < 2; ++half) {  // a word holds the sums of two tiles
                    const int64_t tile = 2 * (first + t) + half;
                    inputs.read<INPUTS>(plane, tile, [&](int64_t c, const Floats* values) {
                        Floats sums[POSITIONS];
                        transform<Input, INPUTS, INPUTS>(values, sums);
                        for (int64_t p = 0; p < POSITIONS; ++p)
                            store_half(v + p * v_stride + t * in + c, half, sums[p]);
                    });
                    gradients.read<OUTPUTS>(plane, tile, [&](int64_t c, const Floats* values) {
                        Floats sums[POSITIONS];
                        transform<OutputGradient, OUTPUTS, INPUTS>(values, sums);
                        for (int64_t p = 0; p < POSITIONS; ++p)
                            store_half(m + p * m_stride + t * out + c, half, sums[p]);
                    });
                }
            if (!alone) {
                #pragma omp barrier
            }
            const int64_t panels = in / width, jobs = POSITIONS * panels;
            for (int64_t job = jobs * member / members; job < jobs * (member + 1) / members; ++job) {
                const int64_t p = job / panels, c = job % panels * width;
                multiply({m + p * m_stride, 1, out, v + p * v_stride + c, in, u + p * out * in + c,
                          in, count, first > begin}, out, width);
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
                transform<FilterGradient, INPUTS, 3>(sums, g);
                for (int64_t i = 0; i < 9; ++i) _mm512_storeu_ps(dweight + (o * 9 + i) * in + c, g[i]);
            }
    }
}

}
