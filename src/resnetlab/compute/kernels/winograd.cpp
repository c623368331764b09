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
#include "shares.h"
#include "winograd_tiles.h"

namespace {

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
    Shares shares(blocks);
    #pragma omp parallel
    {
        const Buffer<uint16_t> v(POSITIONS * v_stride);
        const Buffer<float> m(POSITIONS * m_stride);
        pack(weight, packed.data, turned ? in : out, turned ? out : in, turned);
        shares.each([&](int64_t block) {
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
        });
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
    const int64_t width = panel(in), panels = in / width, pairs = plane.tiles;
    // Up to OWN_SUMS the pairs are shared in parts, and the parts' sums added at the end, which is cheaper
    // than waiting for each other (measured with two threads). Beyond, there is one sum, of which each
    // thread computes something.
    const bool in_parts = out * in <= OWN_SUMS;
    const int64_t of_thread = std::min<int64_t>(OWN_SUMS / (out * in), MOST_PARTS);
    const int64_t parts = in_parts ? std::min(pairs, threads * of_thread) : 1;
    const int64_t chunk = std::max<int64_t>(PAIR_VALUES / (in + out), 64) * (in_parts ? 1 : threads);
    const int64_t v_stride = POSITIONS * in + LINE / 4, m_stride = POSITIONS * out + LINE / 4;
    const Buffer<float> all_u(parts * size);
    // All sums of a tile lie together: written to 36 places far apart, they take up to twice as long.
    const auto words = [](uint32_t* to, int64_t of_tile, int64_t channels) {
        return [=](int64_t t, int64_t c, int64_t p, const Floats* sums) {
            store_words(to + t * of_tile + p * channels + c, sums[0], sums[1]);
        };
    };
    const auto read = [&](int64_t first, int64_t count, uint32_t* v, uint32_t* m) {
        inputs.read<Input, INPUTS, 2>(plane, first, count, words(v, v_stride, in));
        gradients.read<OutputGradient, OUTPUTS, 2>(plane, first, count, words(m, m_stride, out));
    };
    // Of `count` pairs, the products of one position and panel.
    const auto add_products = [&](int64_t job, int64_t count, const uint32_t* v, const uint32_t* m,
                                  float* u, bool add) {
        const int64_t p = job / panels, c = job % panels * width;
        multiply<1, 1>({m + p * out, m_stride, v + p * in + c, v_stride, u + p * out * in + c, in, count,
                        add, out}, out, width);
    };
    const Buffer<uint32_t> common_v(in_parts ? 0 : chunk * v_stride);
    const Buffer<uint32_t> common_m(in_parts ? 0 : chunk * m_stride);
    Shares shares(parts);
    #pragma omp parallel
    {
        if (in_parts) {
            const Buffer<uint32_t> v(chunk * v_stride), m(chunk * m_stride);
            shares.each([&](int64_t part) {
                const int64_t begin = pairs * part / parts, end = pairs * (part + 1) / parts;
                for (int64_t first = begin; first < end; first += chunk) {
                    const int64_t count = std::min(chunk, end - first);
                    read(first, count, v.data, m.data);
                    for (int64_t job = 0; job < POSITIONS * panels; ++job)
                        add_products(job, count, v.data, m.data, all_u + part * size, first > begin);
                }
            });
            #pragma omp barrier
        }
        for (int64_t first = 0; !in_parts && first < pairs; first += chunk) {
            const int64_t count = std::min(chunk, pairs - first);
            #pragma omp for schedule(dynamic)
            for (int64_t t = 0; t < count; t += TILES)
                read(first + t, std::min(TILES, count - t), common_v + t * v_stride,
                     common_m + t * m_stride);
            #pragma omp for schedule(dynamic)
            for (int64_t job = 0; job < POSITIONS * panels; ++job)
                add_products(job, count, common_v.data, common_m.data, all_u.data, first > 0);
        }
        #pragma omp for
        for (int64_t o = 0; o < out; ++o)
            for (int64_t c = 0; c < in; c += LANES) {
                Floats sums[POSITIONS], g[9];
                for (int64_t p = 0; p < POSITIONS; ++p) {
                    const float* of_position = all_u + (p * out + o) * in + c;
                    sums[p] = _mm512_loadu_ps(of_position);
                    for (int64_t i = 1; i < parts; ++i)
                        sums[p] += _mm512_loadu_ps(of_position + i * size);
                }
                transform<FilterGradient, INPUTS, 3>(sums, 1, g);
                for (int64_t i = 0; i < 9; ++i) _mm512_storeu_ps(dweight + (o * 9 + i) * in + c, g[i]);
            }
    }
}

}
