// For each query and group of eight bank vectors a lower bound of the smallest squared distance, less the query's N.
//
// The squared distance of two vectors that were rounded to halves (halves.cu) is N_q + N_b - 2 q.b. A product of
// halves is exact. Tensor cores cut each product and the sum so far to 2^-23 of the largest of them, at least four
// products at a time (Fasi, Higham, Mikaitis and Pranesh 2021): q.b over d elements is wrong by at most
// (d / 4) 6 2^-23 |q| |b|, and 2 q.b by at most 0.75 d 2^-22 (N_q + N_b). With the sums N and what is rounded here
// and in candidates.cu the error is below rounding (N_q + N_b), rounding = (d + 64) 2^-22. Written is the least
// N_b (1 - rounding) - 2 q.b of a group.
//
// A block of 128 threads has 16 ROWS queries and 128 bank vectors, a warp 32 of the vectors as 4 ROWS tiles of
// 16 x 8. 32 elements at a time come to shared memory asynchronously, three stages deep, in the order of fragments:
// 16 bytes read by a lane are an operand of 16 rows or two of 8. For 16 elements a lane reads 16 (ROWS + 2) bytes,
// for 4 ROWS instructions. Bytes: a copy of the bank in halves once for each tile of queries, from the L2 cache
// but for the first; the queries once for each 128 vectors; half a byte for each pair written. On sm_90 a thread has
// 190 registers for ROWS = 7 and 206 for 8, none in memory, and two blocks share a multiprocessor; of the 167
// instructions of a step 56 multiply, 18 read shared memory and 8 copy.
//
// Macro: ROWS (queries of a block, in units of 16; at most 8).

struct Pass {
    int queries, query_tiles, bank_tiles, pieces;
};

struct __align__(16) Words { unsigned a, b, c, d; };

constexpr int WARPS = 4, COLUMNS = 8, STAGES = 3, DEPTH = 2; // units of 16 vectors, and of 16 elements
constexpr int PIECE = 128;                                  // floats that 16 x 16 halves take
constexpr int STAGE = (ROWS + COLUMNS) * DEPTH * PIECE;
constexpr int COPIES = (ROWS + COLUMNS + WARPS - 1) / WARPS;

// The least of each of four values among the four lanes of a row; lane c has the c-th.
__device__ __forceinline__ float least_of_row(const float (&value)[4]) {
    bool high = threadIdx.x & 2, odd = threadIdx.x & 1;
    float first = high ? value[2] : value[0], second = high ? value[3] : value[1];
    first = fminf(first, __shfl_xor_sync(0xffffffffu, high ? value[0] : value[2], 2));
    second = fminf(second, __shfl_xor_sync(0xffffffffu, high ? value[1] : value[3], 2));
    return fminf(odd ? second : first, __shfl_xor_sync(0xffffffffu, odd ? first : second, 1));
}

// One stage's products.
__device__ __forceinline__ void multiply(const float* stage, float (&sums)[ROWS][4][4]) {
    const Words* rows = reinterpret_cast<const Words*>(stage) + threadIdx.x % 32;
    const Words* columns = rows + (ROWS + threadIdx.x / 32 * 2) * DEPTH * 32;
    #pragma unroll
    for (int piece = 0; piece < DEPTH; ++piece) {
        Words left = columns[piece * 32], right = columns[(DEPTH + piece) * 32];
        const unsigned b[4][2] = {{left.a, left.b}, {left.c, left.d}, {right.a, right.b}, {right.c, right.d}};
        #pragma unroll
        for (int i = 0; i < ROWS; ++i) {
            Words row = rows[(i * DEPTH + piece) * 32];
            const unsigned a[4] = {row.a, row.b, row.c, row.d};
            #pragma unroll
            for (int j = 0; j < 4; ++j) mma_f16(sums[i][j], a, b[j]);
        }
    }
}

extern "C" __global__ void __launch_bounds__(32 * WARPS, 2)
least_of_groups(const float* query, const float* bank, const float* norms, float* least,
                const __grid_constant__ Pass s) {
extern __shared__ __align__(16) uint8 dynamic_shared_mem[];
    float* stages = reinterpret_cast<float*>(dynamic_shared_mem);
    int block = blockIdx.y * gridDim.x + blockIdx.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    // Blocks that follow one another share the vectors.
    int query_tile = block % s.query_tiles, bank_tile = block / s.query_tiles;
    if (bank_tile >= s.bank_tiles) return;

    // Unit `warp` + 4 i of the queries and vectors is this warp's to copy.
    const float* from[COPIES];
    #pragma unroll
    for (int i = 0; i < COPIES; ++i) {
        int unit = warp + WARPS * i;
        bool is_query = unit < ROWS;
        long long first = is_query ? query_tile * ROWS + unit : bank_tile * COLUMNS + unit - ROWS;
        from[i] = (is_query ? query : bank) + first * s.pieces * PIECE + lane * 4;
    }
    int steps = s.pieces / DEPTH;
    auto load = [&](int step) {
        float* to = stages + step % STAGES * STAGE + lane * 4;
        #pragma unroll
        for (int i = 0; i < COPIES; ++i) {
            int unit = warp + WARPS * i;
            if (step >= steps || unit >= ROWS + COLUMNS) break;
            #pragma unroll
            for (int piece = 0; piece < DEPTH; ++piece) {
                copy16(to + (unit * DEPTH + piece) * PIECE, from[i] + piece * PIECE, true);
            }
            from[i] += DEPTH * PIECE;
        }
        copies_issued();
    };

    float sums[ROWS][4][4] = {};
    #pragma unroll
    for (int stage = 0; stage < STAGES - 1; ++stage) load(stage);
    for (int step = 0; step < steps; ++step) {
        copies_arrived<STAGES - 2>();
        __syncthreads();
        load(step + STAGES - 1);
        multiply(stages + step % STAGES * STAGE, sums);
    }
    copies_arrived<0>();

    // Tile j of this warp is a group; this lane has its vectors 2 c and 2 c + 1.
    int group = (bank_tile * WARPS + warp) * 4, own = lane % 4 * 2;
    float2 norm[4];
    #pragma unroll
    for (int j = 0; j < 4; ++j) norm[j] = *reinterpret_cast<const float2*>(norms + (group + j) * 8 + own);
    #pragma unroll
    for (int i = 0; i < ROWS; ++i) {
        #pragma unroll
        for (int half = 0; half < 2; ++half) {
            float value[4];
            #pragma unroll
            for (int j = 0; j < 4; ++j) {
                const float(&sum)[4] = sums[i][j];
                value[j] = fminf(fmaf(-2.0f, sum[2 * half], norm[j].x), fmaf(-2.0f, sum[2 * half + 1], norm[j].y));
            }
            float found = least_of_row(value);
            int row = (query_tile * ROWS + i) * 16 + half * 8 + lane / 4;
            long long at = static_cast<long long>(row) * s.bank_tiles * (4 * WARPS) + group + lane % 4;
            if (row < s.queries) least[at] = found;
        }
    }
}
