// A convolution, or one phase of its adjoint, as a matrix product that is never written out.
//
// Rows are output pixels, columns output channels, the sum runs over taps and input channels. A block of
// 128 threads makes a tile of 64 x 64; 32 terms of its rows and columns at a time are copied to shared
// memory asynchronously, three stages deep, zeros where a tap is outside the image. Where there are fewer
// tiles than multiprocessors the terms are split over blocks: each writes its sums, and the last one of a
// tile to arrive adds them up in the order of the splits, so that results do not depend on who is last.
//
// Macros: PRECISION (0 f32, 1 tf32, 2 f16, 3 bf16), ACTIVATION (activation.cuh), and 0 or 1 each for BIAS,
// RESIDUAL, ATTENTION, POOLED (2x2 maxima; rows are ordered by window) and GATED (a tile of columns is 32
// features and their gates).
//
// Bytes: the input once for each tile of columns (taps hit the cache), the weights once for each tile of
// rows. Shared memory: 128 bytes read by a warp for 8 f32 multiply-adds of a lane, 256 for an m16n8k8. On sm_90 a step
// takes 192 instructions for 16 HMMA in f16 and bf16, 407 for 32 in tf32. Four blocks share a multiprocessor, a quarter of its
// warps; with six, two stages and 80 registers a thread, it takes 216, and in tf32 438 and spills: what limits is instructions.

struct Pass {
    int images, in_h, in_w, in_stride, in_first, in_channels;
    int out_h, out_w, out_stride, out_first, out_channels;
    int taps;                 // of the weights, [out channel][tap][in channel]
    int in_step, out_step;    // pixels from one lattice point to the next
    int lattice_h, lattice_w; // lattice points of the largest phase, or windows
    Division by_h, by_w;      // divisions by these
    int row_tiles, column_tiles, phases, splits;
    float parameter;          // of the activation
};

// Taps of a phase: {first entry, entries, row of its first output pixel, column of it}; an entry is
// {rows and columns from a lattice point's input pixel, tap, 0}.
struct __align__(16) Tap { int a, b, c, d; };

constexpr int TILE = 64, TERMS = 32, STAGES = 3, STAGE = 2 * TILE * TERMS, THREADS = 128, SUMS = 32;

// A row of 32 terms is eight chunks of 16 bytes; rows shuffle them so that neither eight threads that
// read one chunk of eight rows nor eight that read four chunks of two rows meet in a bank.
__device__ __forceinline__ int at(int row, int chunk) {
    return row * TERMS + ((chunk ^ (((row & 1) << 2) | ((row >> 1) & 3))) << 2);
}

// Where a row of the product lies: lattice point, and output pixel of a phase; image < 0 outside.
struct Pixel { int image, j, i, y, x; };

__device__ __forceinline__ Pixel pixel_of(int m, int py, int px, const Pass& s) {
    Pixel p;
#if POOLED
    int n = m / 4;
#else
    int n = m;
#endif
    int line = divide(n, s.by_w);
    p.i = n - line * s.lattice_w;
    p.image = divide(line, s.by_h);
    p.j = line - p.image * s.lattice_h;
#if POOLED
    p.j = p.j * 2 + m % 4 / 2;
    p.i = p.i * 2 + m % 2;
#endif
    p.y = p.j * s.out_step + py;
    p.x = p.i * s.out_step + px;
    if (p.image >= s.images || p.y >= s.out_h || p.x >= s.out_w) p.image = -1;
    return p;
}

// The output channel that a column of tile `tile` multiplies into, and the row of its weights.
__device__ __forceinline__ int channel_of(int tile, int column) {
#if GATED
    return tile * 32 + column / 32 * 16 + column % 16;
#else
    return tile * TILE + column;
#endif
}
__device__ __forceinline__ int weights_of(int tile, int column, const Pass& s) {
    int channel = channel_of(tile, column);
#if GATED
    if (column % 32 >= 16) channel += s.out_channels;
#endif
    return channel;
}

// What thread `t` copies: chunk t % 8 of rows t / 8 + 16 i of both operands. Offsets count chunks of 16 bytes, of which a tensor
// has fewer than 2^31.
struct Loader {
    const float4 *x, *w;
    const Tap* taps;
    int y[4], column[4], row[4]; // input pixel of a row for a tap of offset 0, far outside where there is no row; its own chunk
    int weights[4];              // own chunk of a column's weights, below 0 where there is no column
    int pixel, chunks;           // of an input pixel, and of the terms of a tap in units of 32
    int to;                      // in a tile, of the first row
    int entry, chunk;
};

__device__ __forceinline__ void start(Loader& l, int row_tile, int column_tile, Tap phase, int step, const Pass& s) {
    int t = threadIdx.x, own = t % 8;
    l.chunks = (s.in_channels + TERMS - 1) / TERMS;
    l.pixel = s.in_stride / 4;
    l.to = at(t / 8, own);
    l.entry = phase.a + step / l.chunks;
    l.chunk = step % l.chunks;
    #pragma unroll
    for (int i = 0; i < 4; ++i) {
        int line = t / 8 + 16 * i;
        Pixel p = pixel_of(row_tile * TILE + line, phase.c, phase.d, s);
        l.y[i] = p.image >= 0 ? p.j * s.in_step : -(1 << 28);
        l.column[i] = p.i * s.in_step;
        l.row[i] = ((p.image * s.in_h + p.j * s.in_step) * s.in_w + l.column[i]) * l.pixel + s.in_first / 4 + own;
        bool exists = channel_of(column_tile, line) < s.out_channels;
        int weights = (s.out_first + weights_of(column_tile, line, s)) * s.taps * (s.in_channels / 4) + own;
        l.weights[i] = exists ? weights : -(1 << 30) - (1 << 30);
    }
}

// Issues the copies of one step and moves on. A copy that brings zeros reads nothing, wherever its source is.
__device__ __forceinline__ void load(Loader& l, float* rows, float* columns, const Pass& s) {
    int first = l.chunk * (TERMS / 4);
    bool live = (first + static_cast<int>(threadIdx.x % 8)) * 4 < s.in_channels;
    Tap tap = l.taps[l.entry];
    int pixels = (tap.a * s.in_w + tap.b) * l.pixel + first;
    unsigned height = live ? s.in_h : 0, width = s.in_w;
    #pragma unroll
    for (int i = 0; i < 4; ++i) {
        bool inside = static_cast<unsigned>(l.y[i] + tap.a) < height && static_cast<unsigned>(l.column[i] + tap.b) < width;
        copy16(rows + l.to + i * 16 * TERMS, reinterpret_cast<const float*>(l.x + (l.row[i] + pixels)), inside);
    }
    int terms = tap.c * (s.in_channels / 4) + first, least = live ? 0 : 0x7fffffff;
    #pragma unroll
    for (int i = 0; i < 4; ++i) {
        const float* from = reinterpret_cast<const float*>(l.w + (l.weights[i] + terms));
        copy16(columns + l.to + i * 16 * TERMS, from, l.weights[i] >= least);
    }
    if (++l.chunk == l.chunks) {
        l.chunk = 0;
        ++l.entry;
    }
}

#if PRECISION == 0
__device__ __forceinline__ float4 chunk_of(const float* tile, int row, int chunk) {
    return *reinterpret_cast<const float4*>(tile + at(row, chunk));
}

constexpr int ROWS = 8, COLUMNS = 4; // of a thread
constexpr int ROW_LANES = 8;         // lanes from one row to the next
__device__ __forceinline__ constexpr int sum_of(int row, int column) { return row * COLUMNS + column; }
__device__ __forceinline__ constexpr bool is_gate(int column) { return column % 2 == 1; }
__device__ __forceinline__ constexpr int gate_of(int column) { return column + 1; }
__device__ __forceinline__ int row_of(int row) { return threadIdx.x / 64 * 4 + threadIdx.x % 32 / 8 + row * 8; }
__device__ __forceinline__ int column_of(int column) { return threadIdx.x / 32 % 2 * 8 + threadIdx.x % 8 + column * 16; }

// `chunks`: those of 4 terms that hold any.
__device__ __forceinline__ void multiply(const float* rows, const float* columns, int chunks, float (&sums)[SUMS]) {
    #pragma unroll 2
    for (int chunk = 0; chunk < chunks; ++chunk) {
        float4 right[4];
        #pragma unroll
        for (int j = 0; j < 4; ++j) right[j] = chunk_of(columns, column_of(j), chunk);
        #pragma unroll
        for (int i = 0; i < 8; ++i) {
            float4 left = chunk_of(rows, row_of(i), chunk);
            #pragma unroll
            for (int j = 0; j < 4; ++j) {
                float sum = sums[4 * i + j];
                sum = fmaf(left.x, right[j].x, sum);
                sum = fmaf(left.y, right[j].y, sum);
                sum = fmaf(left.z, right[j].z, sum);
                sums[4 * i + j] = fmaf(left.w, right[j].w, sum);
            }
        }
    }
}
#else
constexpr int ROWS = 4, COLUMNS = 8; // of a thread
constexpr int ROW_LANES = 4;         // lanes from one row to the next
// A warp has a quarter of 32 x 32 as 2 x 4 tiles of 16 x 8; sum (4 i + j) * 4 + k is sum k of tile (i, j).
__device__ __forceinline__ constexpr int sum_of(int row, int column) {
    return (row / 2 * 4 + column / 2) * 4 + row % 2 * 2 + column % 2;
}
__device__ __forceinline__ constexpr bool is_gate(int column) { return column >= 4; }
__device__ __forceinline__ constexpr int gate_of(int column) { return column + 4; }
__device__ __forceinline__ int first_row() { return threadIdx.x / 64 * 32 + threadIdx.x % 32 / 4; }
__device__ __forceinline__ int first_column() { return threadIdx.x / 32 % 2 * 32; }
__device__ __forceinline__ int row_of(int row) { return first_row() + row / 2 * 16 + row % 2 * 8; }
__device__ __forceinline__ int column_of(int column) {
    return first_column() + column / 2 * 8 + threadIdx.x % 4 * 2 + column % 2;
}

// Four adjacent terms of a lane stand for those that the instruction's layout gives it: both operands
// agree, and the order of a sum is free.
__device__ __forceinline__ void multiply(const float* rows, const float* columns, int chunks, float (&sums)[SUMS]) {
    // Rows eight apart shuffle their chunks alike, and chunks four apart are 16 floats apart.
    int lane = threadIdx.x % 32;
    const float* own_rows = rows + at(first_row(), lane % 4);
    const float* own_columns = columns + at(first_column() + lane / 4, lane % 4);
    int other_half = lane / 4 % 2 ? -16 : 16;
    #pragma unroll
    for (int half = 0; half < 2; ++half) {
        if (half * 4 >= chunks) break;
        float4 left[2][2], right[4];
        #pragma unroll
        for (int i = 0; i < 4; ++i) {
            left[i / 2][i % 2] = *reinterpret_cast<const float4*>(own_rows + half * other_half + 8 * i * TERMS);
            right[i] = *reinterpret_cast<const float4*>(own_columns + half * other_half + 8 * i * TERMS);
        }
        #pragma unroll
        for (int i = 0; i < 2; ++i) {
            float4 upper = left[i][0], lower = left[i][1];
            #pragma unroll
            for (int j = 0; j < 4; ++j) {
                float(&tile)[4] = reinterpret_cast<float(&)[4]>(sums[(4 * i + j) * 4]);
#if PRECISION == 1
                const unsigned a[4] = {to_tf32(upper.x), to_tf32(lower.x), to_tf32(upper.y), to_tf32(lower.y)};
                const unsigned b[2] = {to_tf32(right[j].x), to_tf32(right[j].y)};
                mma_tf32(tile, a, b);
                const unsigned c[4] = {to_tf32(upper.z), to_tf32(lower.z), to_tf32(upper.w), to_tf32(lower.w)};
                const unsigned d[2] = {to_tf32(right[j].z), to_tf32(right[j].w)};
                mma_tf32(tile, c, d);
#elif PRECISION == 2
                const unsigned a[4] = {to_f16x2(upper.x, upper.y), to_f16x2(lower.x, lower.y),
                                       to_f16x2(upper.z, upper.w), to_f16x2(lower.z, lower.w)};
                const unsigned b[2] = {to_f16x2(right[j].x, right[j].y), to_f16x2(right[j].z, right[j].w)};
                mma_f16(tile, a, b);
#else
                const unsigned a[4] = {to_bf16x2(upper.x, upper.y), to_bf16x2(lower.x, lower.y),
                                       to_bf16x2(upper.z, upper.w), to_bf16x2(lower.z, lower.w)};
                const unsigned b[2] = {to_bf16x2(right[j].x, right[j].y), to_bf16x2(right[j].z, right[j].w)};
                mma_bf16(tile, a, b);
#endif
            }
        }
    }
}
#endif

// Adds up the sums of all splits of a tile in the block that is the last to arrive; false in the others.
__device__ __forceinline__ bool joined(float (&sums)[SUMS], float* partial, unsigned* arrived, int tile, int split,
                                       int* last, const Pass& s) {
    float* own = partial + (static_cast<long long>(tile) * s.splits + split) * (TILE * TILE) + threadIdx.x;
    #pragma unroll
    for (int i = 0; i < SUMS; ++i) own[i * THREADS] = sums[i];
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        *last = atomicAdd(&arrived[tile], 1u) == static_cast<unsigned>(s.splits - 1);
        if (*last) arrived[tile] = 0; // for the next launch
    }
    __syncthreads();
    if (!*last) return false;
    __threadfence();
    #pragma unroll
    for (int i = 0; i < SUMS; ++i) sums[i] = 0.0f;
    #pragma unroll 2
    for (int other = 0; other < s.splits; ++other) {
        const float* from = partial + (static_cast<long long>(tile) * s.splits + other) * (TILE * TILE) + threadIdx.x;
        #pragma unroll
        for (int i = 0; i < SUMS; ++i) sums[i] += __ldcg(from + i * THREADS);
    }
    return true;
}

// Bias, residual, activation and attention of each sum, or gates and maxima, and the stores.
__device__ __forceinline__ void finish(const float (&sums)[SUMS], const float* bias, const float* residual,
                                       const float* attention, float* y, int row_tile, int column_tile, Tap phase,
                                       const Pass& s) {
    float shift[COLUMNS];
    #pragma unroll
    for (int c = 0; c < COLUMNS; ++c) {
        int channel = channel_of(column_tile, column_of(c));
#if GATED
        if (is_gate(c)) channel += s.out_channels;
#endif
        shift[c] = BIAS && channel_of(column_tile, column_of(c)) < s.out_channels ? bias[s.out_first + channel] : 0.0f;
    }
    #pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        int m = row_tile * TILE + row_of(r);
        Pixel p = pixel_of(m, phase.c, phase.d, s);
        long long pixel = (static_cast<long long>(p.image) * s.out_h + p.y) * s.out_w + p.x;
        long long first = pixel * s.out_stride + s.out_first;
#if POOLED
        long long to = static_cast<long long>(m / 4) * s.out_stride + s.out_first;
#else
        long long to = first;
#endif
        float lift = ATTENTION && p.image >= 0 ? 1.0f + attention[pixel] : 1.0f;
        float added[COLUMNS];
        #pragma unroll
        for (int c = 0; c < COLUMNS; ++c) {
            int channel = channel_of(column_tile, column_of(c));
            added[c] = RESIDUAL && p.image >= 0 && channel < s.out_channels ? residual[first + channel] : 0.0f;
        }
        #pragma unroll
        for (int c = 0; c < COLUMNS; ++c) {
            int channel = channel_of(column_tile, column_of(c));
            bool exists = channel < s.out_channels && p.image >= 0;
#if GATED
            if (is_gate(c)) continue;
#endif
            float value = activate(sums[sum_of(r, c)] + shift[c] + added[c], s.parameter);
#if GATED
            value *= sigmoid(sums[sum_of(r, gate_of(c))] + shift[gate_of(c)]);
#endif
#if ATTENTION
            value *= lift;
#endif
#if POOLED
            value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, ROW_LANES));
            value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 2 * ROW_LANES));
            exists = exists && m % 4 == 0;
#endif
            if (exists) y[to + channel] = value;
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, PRECISION == 0 ? 3 : 4)
implicit_gemm(const float* x, const float* w, const float* bias, const float* residual, const float* attention,
              const Tap* taps, float* partial, unsigned* arrived, float* y, const __grid_constant__ Pass s) {
extern __shared__ __align__(16) uint8 dynamic_shared_mem[];
    float* tiles = reinterpret_cast<float*>(dynamic_shared_mem);
    int block = blockIdx.y * gridDim.x + blockIdx.x;
    int tiles_of_phase = s.row_tiles * s.column_tiles;
    int tile = block % (tiles_of_phase * s.phases), split = block / (tiles_of_phase * s.phases);
    if (split >= s.splits) return;
    int column_tile = tile % s.column_tiles, row_tile = tile / s.column_tiles % s.row_tiles;
    Tap phase = taps[tile / tiles_of_phase];

    Loader l;
    l.x = reinterpret_cast<const float4*>(x), l.w = reinterpret_cast<const float4*>(w), l.taps = taps;
    int steps = phase.b * ((s.in_channels + TERMS - 1) / TERMS);
    int share = (steps + s.splits - 1) / s.splits;
    int first = min(split * share, steps), count = min(share, steps - first);
    start(l, row_tile, column_tile, phase, first, s);

    float sums[SUMS];
    #pragma unroll
    for (int i = 0; i < SUMS; ++i) sums[i] = 0.0f;
    #pragma unroll
    for (int stage = 0; stage < STAGES - 1; ++stage) {
        float* to = tiles + stage * STAGE;
        if (stage < count) load(l, to, to + TILE * TERMS, s);
        copies_issued();
    }
    int chunk = first % l.chunks; // of the step's input channels
    int from = 0, to = (STAGES - 1) * STAGE;
    for (int step = 0; step < count; ++step) {
        copies_arrived<STAGES - 2>();
        __syncthreads();
        if (step + STAGES - 1 < count) load(l, tiles + to, tiles + to + TILE * TERMS, s);
        copies_issued();
        multiply(tiles + from, tiles + from + TILE * TERMS, min(TERMS, s.in_channels - chunk * TERMS) / 4, sums);
        if (++chunk == l.chunks) chunk = 0;
        to = from; // what was multiplied is free
        from = from == (STAGES - 1) * STAGE ? 0 : from + STAGE;
    }
    copies_arrived<0>();
    __syncthreads();
    if (s.splits > 1 && !joined(sums, partial, arrived, tile, split, reinterpret_cast<int*>(tiles), s)) return;
    finish(sums, bias, residual, attention, y, row_tile, column_tile, phase, s);
}
