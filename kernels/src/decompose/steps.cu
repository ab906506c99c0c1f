// All steps of the decomposition in one launch (section 2.2, equation 3): the formulas are those of kernels.rs and
// slopes.rs, in their order.
//
// A block of 256 threads keeps a tile of 16 x 16 pixels of one channel from the first step to the last: pixel, prior, background
// and moments of Adam in registers, the prior's surroundings and windowed means beside them. A step reads the background of the tile
// and its surroundings from the L2 cache, where neighbouring tiles have written it, and ends with a barrier of the blocks
// of one channel of one image; these alone exchange anything. Backgrounds alternate between two buffers. Bytes per element and
// step: 4 written, 4 (14 + 2 SIZE)^2 / 256 read, 20 for a window of 11. All blocks have to be on the device at once.
//
// Macros: SIZE (pixels along one side of the window, odd, at most 13), BORDER (beyond the image: 0 whole windows alone, 1
// mirrored, edge repeated, 2 mirrored around the edge, 3 zeros), SHARED (bytes of shared memory).

struct Shape {
    int h, w, c;
    int oh, ow;                                              // rows and columns of the map of SSIM
    int steps;
    float c1, c2, scale;                                     // of SSIM
    float upstream, lambda;                                  // slope of the loss in SSIM, weight of the L1 term
    float beta1, one_minus_beta1, beta2, one_minus_beta2, eps; // of Adam
};

constexpr int TILE = 16, GROUP = 4, THREADS = TILE * TILE;
constexpr int HALO = TILE - 1 + SIZE;                        // side of the square of coefficients that a tile needs
constexpr int WIDE = TILE - 2 + 2 * SIZE;                    // side of the square of background that those need
constexpr int BEFORE = BORDER == 0 ? SIZE - 1 : SIZE / 2;    // rows above and columns left of the tile in the first
constexpr int REACH = BORDER == 0 ? BEFORE : BEFORE + SIZE / 2; // and in the second
constexpr int LOADS = (WIDE * WIDE + THREADS - 1) / THREADS, GROUPS = (HALO + GROUP - 1) / GROUP;
static_assert(HALO * GROUPS <= THREADS, "a thread has one group of coefficients");

// Lanes of a warp go down the rows where they write along them: an odd pitch keeps them in banks of their own.
constexpr int PITCH = WIDE + 1, ROW_PITCH = HALO | 1, SUM_PITCH = TILE + 1;
constexpr int SQUARE = HALO * ROW_PITCH, PLANE = WIDE * ROW_PITCH;

struct Shared {
    float prior[WIDE * PITCH + GROUP], l[WIDE * PITCH + GROUP]; // groups at the edge read a little beyond
    float coefficients[3][SQUARE];
    // Horizontal means of l, l^2 and l * prior, then of the coefficients; the last group reads two lines beyond.
    union {
        float rows[3 * PLANE + 3 * ROW_PITCH];
        float sums[3][HALO * SUM_PITCH];
    };
    float row_band[TILE * SIZE], column_band[TILE * SIZE];   // weights of the adjoint
};
static_assert(sizeof(Shared) == SHARED, "the host has counted all of it");

// Three sums for each output of a group.
struct Sums {
    float a[GROUP], b[GROUP], c[GROUP];
};

// Where position p of an axis of n, seen beyond its ends, lies; -1 where there is nothing.
__device__ __forceinline__ int mirror(int p, int n) {
    if (p >= 0 && p < n) return p;
#if BORDER == 1
    int q = ((p % (2 * n)) + 2 * n) % (2 * n);
    return q < n ? q : 2 * n - 1 - q;
#elif BORDER == 2
    int period = max(2 * n - 2, 1), q = ((p % period) + period) % period;
    return q < n ? q : period - q;
#else
    return -1;
#endif
}

// Horizontal means of l, l^2 and l * prior over the square of background.
__device__ __forceinline__ void background_means(Shared& shared, const float (&window)[SIZE]) {
    for (int i = threadIdx.x; i < WIDE * GROUPS; i += THREADS) {
        int row = i % WIDE, first = i / WIDE * GROUP;
        Sums sums = {};
        #pragma unroll
        for (int t = 0; t < SIZE + GROUP - 1; ++t) {
            float l = shared.l[row * PITCH + first + t], prior = shared.prior[row * PITCH + first + t];
            float square = l * l, product = l * prior;
            #pragma unroll
            for (int o = 0; o < GROUP; ++o) {
                if (t < o || t >= o + SIZE) continue;
                sums.a[o] += window[t - o] * l;
                sums.b[o] += window[t - o] * square;
                sums.c[o] += window[t - o] * product;
            }
        }
        #pragma unroll
        for (int o = 0; o < GROUP; ++o) {
            if (first + o >= HALO) break;
            float* to = shared.rows + row * ROW_PITCH + first + o;
            to[0] = sums.a[o];
            to[PLANE] = sums.b[o];
            to[2 * PLANE] = sums.c[o];
        }
    }
}

// The means of a group of rows from `first` on, from their horizontal means.
__device__ __forceinline__ Sums vertical_means(const Shared& shared, const float (&window)[SIZE], int first, int column) {
    Sums sums = {};
    #pragma unroll
    for (int t = 0; t < SIZE + GROUP - 1; ++t) {
        const float* from = shared.rows + (first + t) * ROW_PITCH + column;
        float l = from[0], square = from[PLANE], product = from[2 * PLANE];
        #pragma unroll
        for (int o = 0; o < GROUP; ++o) {
            if (t < o || t >= o + SIZE) continue;
            sums.a[o] += window[t - o] * l;
            sums.b[o] += window[t - o] * square;
            sums.c[o] += window[t - o] * product;
        }
    }
    return sums;
}

// Whether the map of SSIM has row y and column x, both counted from BEFORE above and left of it.
__device__ __forceinline__ bool on_map(int y, int x, const Shape& s) {
    return y >= BEFORE && x >= BEFORE && y < s.oh + BEFORE && x < s.ow + BEFORE;
}

// Coefficients of the adjoint from the means of l, l^2, l * prior and of the prior and its square (ssim/gradient.rs).
__device__ __forceinline__ void ssim_slopes(float x, float xx, float xy, float y, float yy, const Shape& s, float (&slopes)[3]) {
    float a1 = 2.0f * x * y + s.c1;
    float a2 = 2.0f * s.scale * (xy - x * y) + s.c2;
    float b1 = x * x + y * y + s.c1;
    float b2 = s.scale * (xx - x * x + yy - y * y) + s.c2;
    float inverse = 1.0f / (b1 * b2);
    float value = a1 * a2 * inverse;
    float on_a1 = a2 * inverse, on_a2 = a1 * inverse;
    float on_b1 = -value * b2 * inverse, on_b2 = -value * b1 * inverse;
    float own = 2.0f * (on_b1 - s.scale * on_b2), other = 2.0f * (on_a1 - s.scale * on_a2);
    slopes[0] = s.upstream * (own * x + other * y);
    slopes[1] = s.upstream * (s.scale * on_b2);
    slopes[2] = s.upstream * (2.0f * s.scale * on_a2);
}

// Horizontal sums of the adjoint, for the columns of the tile. Two outputs a thread keep 208 threads busy for a window of 11.
__device__ __forceinline__ void adjoint_rows(Shared& shared) {
    constexpr int PAIR = 2;
    for (int i = threadIdx.x; i < HALO * (TILE / PAIR); i += THREADS) {
        int row = i % HALO, first = i / HALO * PAIR;
        float sums[3][PAIR] = {};
        #pragma unroll
        for (int t = 0; t < SIZE + PAIR - 1; ++t) {
            #pragma unroll
            for (int o = 0; o < PAIR; ++o) {
                if (t < o || t >= o + SIZE) continue;
                float weight = shared.column_band[(first + o) * SIZE + t - o];
                #pragma unroll
                for (int k = 0; k < 3; ++k) sums[k][o] += weight * shared.coefficients[k][row * ROW_PITCH + first + t];
            }
        }
        #pragma unroll
        for (int k = 0; k < 3; ++k) {
            #pragma unroll
            for (int o = 0; o < PAIR; ++o) shared.sums[k][row * SUM_PITCH + first + o] = sums[k][o];
        }
    }
}

// Where a thread's column of four coefficients begins in the square of a tile; none for the last threads.
struct Group {
    int row, column;
    bool exists;
};

// Writes a thread's coefficients from the means of the background, and of the prior and its square.
__device__ __forceinline__ void coefficients(Shared& shared, const Sums& means, const Sums& known, Group group, int top, int left, const Shape& s) {
    #pragma unroll
    for (int o = 0; o < GROUP; ++o) {
        int row = group.row + o;
        if (row >= HALO) break;
        float slopes[3] = {};
        if (on_map(top + row, left + group.column, s)) {
            ssim_slopes(means.a[o], means.b[o], means.c[o], known.a[o], known.b[o], s, slopes);
        }
        #pragma unroll
        for (int k = 0; k < 3; ++k) shared.coefficients[k][row * ROW_PITCH + group.column] = slopes[k];
    }
}

// A thread's pixel: image, prior, background, moments of Adam.
struct Pixel {
    float x, prior, l, first_moment, second_moment;
};

// The pixel after a step (adam.rs) along the slope of SSIM, by the adjoint at its row and column of the tile, and of the L1 term.
__device__ __forceinline__ void move(Pixel& own, const Shared& shared, int y, int x, float rate, float correction, const Shape& s) {
    float slopes[3] = {};
    #pragma unroll
    for (int d = 0; d < SIZE; ++d) {
        float weight = shared.row_band[y * SIZE + d];
        #pragma unroll
        for (int k = 0; k < 3; ++k) slopes[k] += weight * shared.sums[k][(y + d) * SUM_PITCH + x];
    }
    float similarity = slopes[0] + 2.0f * own.l * slopes[1] + own.prior * slopes[2];
    float slope = similarity + s.lambda * ((own.l > own.x ? 1.0f : 0.0f) - (own.l < own.x ? 1.0f : 0.0f));
    own.first_moment = s.beta1 * own.first_moment + s.one_minus_beta1 * slope;
    own.second_moment = s.beta2 * own.second_moment + s.one_minus_beta2 * slope * slope;
    own.l = own.l - rate * own.first_moment / (sqrtf(own.second_moment) * correction + s.eps);
}

// Brings the elements of a square that this thread loads to shared memory; zeros where the offset is -1.
__device__ __forceinline__ void load_square(float* square, const float* from, const int (&offsets)[LOADS]) {
    float values[LOADS];
    #pragma unroll
    for (int j = 0; j < LOADS; ++j) values[j] = offsets[j] >= 0 ? from[offsets[j]] : 0.0f;
    #pragma unroll
    for (int j = 0; j < LOADS; ++j) {
        int i = threadIdx.x + j * THREADS;
        if (i < WIDE * WIDE) square[i / WIDE * PITCH + i % WIDE] = values[j];
    }
}

// `rates`: for each step the learning rate with the first bias correction, then the second correction. `arrived`: a zero for
// each channel of each image. The last background is in `l`.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
decompose_steps(const float* x, const float* prior, const float* weights, const float* row_bands, const float* column_bands,
                const float* rates, float* l, float* other, unsigned* arrived, const __grid_constant__ Shape s) {
extern __shared__ __align__(16) uint8 dynamic_shared_mem[];
    Shared& shared = *reinterpret_cast<Shared*>(dynamic_shared_mem);
    int t = threadIdx.x, across = (s.w + TILE - 1) / TILE, down = (s.h + TILE - 1) / TILE;
    int left = blockIdx.x % across * TILE, top = blockIdx.x / across % down * TILE, map = blockIdx.x / (across * down);
    int base = map / s.c * s.h * s.w * s.c + map % s.c; // of the channel, whose pixels are c elements apart

    for (int i = t; i < WIDE * PITCH + GROUP; i += THREADS) shared.prior[i] = shared.l[i] = 0.0f;
    if (t < 3 * ROW_PITCH) shared.rows[3 * PLANE + t] = 0.0f;
    if (t < TILE * SIZE) {
        int line = t / SIZE, tap = t % SIZE;
        shared.row_band[t] = row_bands[min(top + line, s.h - 1) * SIZE + tap];
        shared.column_band[t] = column_bands[min(left + line, s.w - 1) * SIZE + tap];
    }
    float window[SIZE];
    #pragma unroll
    for (int i = 0; i < SIZE; ++i) window[i] = weights[i];
    // The square of background in memory, an element in THREADS of each thread.
    int offsets[LOADS];
    #pragma unroll
    for (int j = 0; j < LOADS; ++j) {
        int i = t + j * THREADS;
        int row = mirror(top + i / WIDE - REACH, s.h), column = mirror(left + i % WIDE - REACH, s.w);
        offsets[j] = row >= 0 && column >= 0 && i < WIDE * WIDE ? base + (row * s.w + column) * s.c : -1;
    }
    int y = t / TILE, column = t % TILE;
    bool inside = top + y < s.h && left + column < s.w;
    int offset = base + (min(top + y, s.h - 1) * s.w + min(left + column, s.w - 1)) * s.c;
    Pixel own = {x[offset], prior[offset], prior[offset], 0.0f, 0.0f};
    Group group = {t / HALO * GROUP, t % HALO, t < HALO * GROUPS};

    // The background begins as the prior, so that its means are those of the prior and of its square.
    __syncthreads();
    load_square(shared.prior, prior, offsets);
    load_square(shared.l, prior, offsets);
    __syncthreads();
    background_means(shared, window);
    __syncthreads();
    Sums known = {};
    if (group.exists) known = vertical_means(shared, window, group.row, group.column);

    for (int step = 0; step < s.steps; ++step) {
        bool odd = (s.steps - step) % 2;
        if (step > 0) {
            load_square(shared.l, odd ? other : l, offsets);
            __syncthreads();
            background_means(shared, window);
            __syncthreads();
        }
        if (group.exists) {
            Sums means = vertical_means(shared, window, group.row, group.column);
            coefficients(shared, means, known, group, top, left, s);
        }
        __syncthreads();
        adjoint_rows(shared);
        __syncthreads();
        move(own, shared, y, column, rates[2 * step], rates[2 * step + 1], s);
        if (inside) (odd ? l : other)[offset] = own.l;
        if (step + 1 < s.steps) blocks_barrier(arrived + map, across * down, step);
    }
    blocks_done(arrived + map, across * down, s.steps - 1);
}
