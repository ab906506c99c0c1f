// Partial weight gradients of a convolution: rows are output channels, columns taps and input channels,
// the sum runs over a share of the output pixels.
//
// A block of 128 threads makes a tile of 64 x 64; 32 pixels of its rows and columns at a time are copied to
// shared memory asynchronously, three stages deep, zeros where a tap is outside the image. Partial sums of
// the shares are added up in their order by another kernel.
//
// Macro: PRECISION (0 f32, 1 tf32, 2 f16, 3 bf16).
//
// Bytes: the gradient once for each tile of columns, the input once for each tile of rows and each tap.

struct Pass {
    int images, in_h, in_w, in_stride, in_first, in_channels;
    int out_h, out_w, out_stride, out_first, out_channels;
    int kernel_w, taps, stride, dilation, before_h, before_w;
    Division by_h, by_w; // divisions by out_h and out_w
    int row_tiles, column_tiles, splits, per_split;
    int total; // weights of all groups
};

constexpr int TILE = 64, TERMS = 32, STAGES = 3, THREADS = 128, SUMS = 32;
// Floats from one pixel to the next: the lanes of a warp that read 4 pixels of 8 channels meet in no bank.
constexpr int LINE = TILE + 8, STAGE = 2 * TERMS * LINE;

// What thread `t` copies: chunk t % 16 of pixels t / 16 + 8 i of both operands. Offsets count chunks of 16 bytes, of which a
// tensor has fewer than 2^31.
struct Loader {
    const float4 *x, *grad;
    int pixel;                     // this thread's first of the next step
    int rows_end, columns_end;     // first pixel that is not of the share; 0 where the thread's channels do not exist
    int row, channel, dy, dx;      // own chunk of a pixel of the gradient and of the input; the tap
    int to;                        // in a tile, of the first pixel
};

__device__ __forceinline__ void start(Loader& l, int row_tile, int column_tile, int first, int end, const Pass& s) {
    int t = threadIdx.x, own = t % 16 * 4;
    l.pixel = first + t / 16;
    l.to = t / 16 * LINE + own;
    int row = row_tile * TILE + own;
    l.row = (s.out_first + row) / 4;
    l.rows_end = row < s.out_channels ? end : 0;
    int column = column_tile * TILE + own, tap = column / s.in_channels;
    l.channel = (s.in_first + column % s.in_channels) / 4;
    l.columns_end = tap < s.taps ? end : 0;
    l.dy = tap / s.kernel_w * s.dilation - s.before_h;
    l.dx = tap % s.kernel_w * s.dilation - s.before_w;
}

// Issues the copies of one step and moves on. A copy that brings zeros reads nothing, wherever its source is.
__device__ __forceinline__ void load(Loader& l, float* rows, float* columns, const Pass& s) {
    int out_pixel = s.out_stride / 4, in_pixel = s.in_stride / 4;
    unsigned height = s.in_h, width = s.in_w;
    #pragma unroll
    for (int i = 0; i < 4; ++i) {
        int pixel = l.pixel + 8 * i, to = l.to + 8 * i * LINE;
        const float4* from = l.grad + (pixel * out_pixel + l.row);
        copy16(rows + to, reinterpret_cast<const float*>(from), pixel < l.rows_end);
        int line = divide(pixel, s.by_w), image = divide(line, s.by_h);
        int y = (line - image * s.out_h) * s.stride + l.dy, x = (pixel - line * s.out_w) * s.stride + l.dx;
        bool inside = pixel < l.columns_end && static_cast<unsigned>(y) < height && static_cast<unsigned>(x) < width;
        from = l.x + (((image * s.in_h + y) * s.in_w + x) * in_pixel + l.channel);
        copy16(columns + to, reinterpret_cast<const float*>(from), inside);
    }
    l.pixel += TERMS;
}

#if PRECISION == 0
// A thread has rows 4 a .. 4 a + 3 and 32 + those, and four adjacent columns; sum 4 i + j.
__device__ __forceinline__ int row_of(int i) { return threadIdx.x / 16 * 4 + i / 4 % 4 + i / 16 * 32; }
__device__ __forceinline__ int column_of(int i) { return threadIdx.x % 16 * 4 + i % 4; }

__device__ __forceinline__ void multiply(const float* rows, const float* columns, float (&sums)[SUMS]) {
    #pragma unroll 8
    for (int term = 0; term < TERMS; ++term) {
        const float4* from = reinterpret_cast<const float4*>(rows + term * LINE);
        float4 upper = from[threadIdx.x / 16], lower = from[8 + threadIdx.x / 16];
        float4 right = reinterpret_cast<const float4*>(columns + term * LINE)[threadIdx.x % 16];
        const float left[8] = {upper.x, upper.y, upper.z, upper.w, lower.x, lower.y, lower.z, lower.w};
        #pragma unroll
        for (int i = 0; i < 8; ++i) {
            sums[4 * i] = fmaf(left[i], right.x, sums[4 * i]);
            sums[4 * i + 1] = fmaf(left[i], right.y, sums[4 * i + 1]);
            sums[4 * i + 2] = fmaf(left[i], right.z, sums[4 * i + 2]);
            sums[4 * i + 3] = fmaf(left[i], right.w, sums[4 * i + 3]);
        }
    }
}
#else
// A warp has a quarter of 32 x 32 as 2 x 4 tiles of 16 x 8; sum (4 i + j) * 4 + k is sum k of tile (i, j).
__device__ __forceinline__ int row_of(int i) {
    return threadIdx.x / 64 * 32 + threadIdx.x % 32 / 4 + i / 16 * 16 + i % 4 / 2 * 8;
}
__device__ __forceinline__ int column_of(int i) {
    return threadIdx.x / 32 % 2 * 32 + i / 4 % 4 * 8 + threadIdx.x % 4 * 2 + i % 2;
}

// One register of an operand: in tf32 the term `term`, in f16 and bf16 it and the one four later. Which
// terms make a pair is free as long as both operands agree.
__device__ __forceinline__ unsigned operand(const float* tile, int term, int channel) {
    const float* at = tile + term * LINE + channel;
#if PRECISION == 1
    return to_tf32(at[0]);
#elif PRECISION == 2
    return to_f16x2(at[0], at[4 * LINE]);
#else
    return to_bf16x2(at[0], at[4 * LINE]);
#endif
}

__device__ __forceinline__ void multiply(const float* rows, const float* columns, float (&sums)[SUMS]) {
    constexpr int DEPTH = PRECISION == 1 ? 8 : 16, LATER = DEPTH / 2;
    int lane = threadIdx.x % 32, g = lane / 4, c = lane % 4;
    int first_row = threadIdx.x / 64 * 32 + g, first_column = threadIdx.x / 32 % 2 * 32 + g;
    #pragma unroll
    for (int term = c; term < TERMS; term += DEPTH) {
        unsigned left[2][4];
        #pragma unroll
        for (int i = 0; i < 2; ++i) {
            left[i][0] = operand(rows, term, first_row + 16 * i);
            left[i][1] = operand(rows, term, first_row + 16 * i + 8);
            left[i][2] = operand(rows, term + LATER, first_row + 16 * i);
            left[i][3] = operand(rows, term + LATER, first_row + 16 * i + 8);
        }
        #pragma unroll
        for (int j = 0; j < 4; ++j) {
            const unsigned right[2] = {operand(columns, term, first_column + 8 * j),
                                       operand(columns, term + LATER, first_column + 8 * j)};
            #pragma unroll
            for (int i = 0; i < 2; ++i) {
                float(&tile)[4] = reinterpret_cast<float(&)[4]>(sums[(4 * i + j) * 4]);
#if PRECISION == 1
                mma_tf32(tile, left[i], right);
#elif PRECISION == 2
                mma_f16(tile, left[i], right);
#else
                mma_bf16(tile, left[i], right);
#endif
            }
        }
    }
}
#endif

extern "C" __global__ void __launch_bounds__(THREADS, 3)
weight_gradient(const float* x, const float* grad, float* partial, const __grid_constant__ Pass s) {
extern __shared__ __align__(16) uint8 dynamic_shared_mem[];
    float* tiles = reinterpret_cast<float*>(dynamic_shared_mem);
    int block = blockIdx.y * gridDim.x + blockIdx.x;
    int column_tile = block % s.column_tiles, row_tile = block / s.column_tiles % s.row_tiles;
    int split = block / (s.column_tiles * s.row_tiles);
    if (split >= s.splits) return;
    int pixels = s.images * s.out_h * s.out_w;
    int first = min(split * s.per_split, pixels), end = min(first + s.per_split, pixels);
    int count = (end - first + TERMS - 1) / TERMS;

    Loader l;
    l.x = reinterpret_cast<const float4*>(x), l.grad = reinterpret_cast<const float4*>(grad);
    start(l, row_tile, column_tile, first, end, s);
    float sums[SUMS];
    #pragma unroll
    for (int i = 0; i < SUMS; ++i) sums[i] = 0.0f;
    #pragma unroll
    for (int stage = 0; stage < STAGES - 1; ++stage) {
        float* to = tiles + stage * STAGE;
        if (stage < count) load(l, to, to + TERMS * LINE, s);
        copies_issued();
    }
    int from = 0, to = (STAGES - 1) * STAGE;
    for (int step = 0; step < count; ++step) {
        copies_arrived<STAGES - 2>();
        __syncthreads();
        if (step + STAGES - 1 < count) load(l, tiles + to, tiles + to + TERMS * LINE, s);
        copies_issued();
        multiply(tiles + from, tiles + from + TERMS * LINE, sums);
        to = from; // what was multiplied is free
        from = from == (STAGES - 1) * STAGE ? 0 : from + STAGE;
    }
    #pragma unroll
    for (int i = 0; i < SUMS; ++i) {
        int row = row_tile * TILE + row_of(i), column = column_tile * TILE + column_of(i);
        int width = s.taps * s.in_channels;
        if (row < s.out_channels && column < width) {
            partial[static_cast<long long>(split) * s.total + static_cast<long long>(s.out_first + row) * width + column] = sums[i];
        }
    }
}
