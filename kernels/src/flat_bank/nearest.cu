// The next nearest bank vector of each query by Euclidean distance, within a share of the bank.
//
// A block of 128 threads has 64 queries and goes through its share 64 vectors at a time: a thread keeps the
// sums of squared differences of 8 x 4 pairs, 32 elements at a time come to shared memory asynchronously,
// three stages deep and on across tiles. Only the nearest of the share is written. Operations: a
// subtraction and a multiply-add for each pair and element.
//
// Macro: AFTER (1 to find the first one behind `last` in the order of distance and index).

struct Search {
    int queries, vectors, d, query_tiles, splits, per_split;
};

constexpr int TILE = 64, TERMS = 32, STAGES = 3, THREADS = 128;

// A row of 32 elements is eight chunks of 16 bytes, shuffled so that eight threads that read one chunk of
// eight rows meet in no bank.
__device__ __forceinline__ int at(int row, int chunk) { return row * TERMS + ((chunk ^ (row & 7)) << 2); }

__device__ __forceinline__ float4 chunk_of(const float* tile, int row, int chunk) {
    return *reinterpret_cast<const float4*>(tile + at(row, chunk));
}

__device__ __forceinline__ bool before(float square, unsigned place, float other, unsigned other_place) {
    return square < other || (square == other && place < other_place);
}

// Copies 32 elements of 64 rows from `first` on; zeros beyond `end` and beyond the last element.
__device__ __forceinline__ void load(const float* from, float* to, int first, int end, int element, int d) {
    int own = threadIdx.x % 8;
    #pragma unroll
    for (int i = 0; i < 4; ++i) {
        int line = threadIdx.x / 8 + 16 * i;
        bool exists = first + line < end && element + own * 4 < d;
        const float* source = exists ? from + static_cast<long long>(first + line) * d + element + own * 4 : from;
        copy16(to + at(line, own), source, exists);
    }
}

__device__ __forceinline__ float add_square(float a, float b, float sum) {
    float e = a - b;
    return fmaf(e, e, sum);
}

extern "C" __global__ void __launch_bounds__(THREADS, 3)
nearest_distance(const float* query, const float* bank, const float* last, const unsigned* last_at, float* squares,
                 unsigned* places, const __grid_constant__ Search s) {
extern __shared__ __align__(16) uint8 dynamic_shared_mem[];
    float* tiles = reinterpret_cast<float*>(dynamic_shared_mem);
    int block = blockIdx.y * gridDim.x + blockIdx.x, t = threadIdx.x;
    int first_query = block % s.query_tiles * TILE, split = block / s.query_tiles;
    if (split >= s.splits) return;
    // This thread's rows are row + 8 i, its columns column + 16 j.
    int row = t / 64 * 4 + t % 32 / 8, column = t / 32 % 2 * 8 + t % 8;
    int begin = min(split * s.per_split, s.vectors), end = min(begin + s.per_split, s.vectors);
    int chunks = (s.d + TERMS - 1) / TERMS, steps = (end - begin + TILE - 1) / TILE * chunks;

    float sums[8][4] = {}, best[8];
    unsigned best_at[8];
    #pragma unroll
    for (int i = 0; i < 8; ++i) best[i] = 3.4e38f, best_at[i] = 0xffffffffu;

    int loaded = 0, loaded_chunk = 0, loaded_first = begin;
    auto next = [&](int stage) {
        if (loaded < steps) {
            float* to = tiles + stage * 2 * TILE * TERMS;
            load(query, to, first_query, s.queries, loaded_chunk * TERMS, s.d);
            load(bank, to + TILE * TERMS, loaded_first, end, loaded_chunk * TERMS, s.d);
            ++loaded;
            if (++loaded_chunk == chunks) loaded_chunk = 0, loaded_first += TILE;
        }
        copies_issued();
    };
    #pragma unroll
    for (int stage = 0; stage < STAGES - 1; ++stage) next(stage);
    int chunk_of_tile = 0, first = begin;
    for (int step = 0; step < steps; ++step) {
        copies_arrived<STAGES - 2>();
        __syncthreads();
        next((step + STAGES - 1) % STAGES);
        const float* rows = tiles + step % STAGES * 2 * TILE * TERMS;
        const float* columns = rows + TILE * TERMS;
        #pragma unroll 2
        for (int chunk = 0; chunk < TERMS / 4; ++chunk) {
            float4 right[4];
            #pragma unroll
            for (int j = 0; j < 4; ++j) right[j] = chunk_of(columns, column + 16 * j, chunk);
            #pragma unroll
            for (int i = 0; i < 8; ++i) {
                float4 left = chunk_of(rows, row + 8 * i, chunk);
                #pragma unroll
                for (int j = 0; j < 4; ++j) {
                    float sum = add_square(left.x, right[j].x, sums[i][j]);
                    sum = add_square(left.y, right[j].y, sum);
                    sum = add_square(left.z, right[j].z, sum);
                    sums[i][j] = add_square(left.w, right[j].w, sum);
                }
            }
        }
        if (++chunk_of_tile < chunks) continue;
        #pragma unroll
        for (int i = 0; i < 8; ++i) {
#if AFTER
            int own = min(first_query + row + 8 * i, s.queries - 1);
            float from = last[own];
            unsigned from_at = last_at[own];
#endif
            #pragma unroll
            for (int j = 0; j < 4; ++j) {
                unsigned place = first + column + 16 * j;
                float square = sums[i][j];
                bool fresh = place < static_cast<unsigned>(end);
#if AFTER
                fresh = fresh && before(from, from_at, square, place);
#endif
                if (fresh && before(square, place, best[i], best_at[i])) best[i] = square, best_at[i] = place;
                sums[i][j] = 0.0f;
            }
        }
        chunk_of_tile = 0;
        first += TILE;
    }

    copies_arrived<0>();
    __syncthreads();
    // The nearest of the 16 threads that share a row.
    float* found = tiles;
    unsigned* found_at = reinterpret_cast<unsigned*>(tiles + TILE * 16);
    #pragma unroll
    for (int i = 0; i < 8; ++i) {
        found[(row + 8 * i) * 16 + column] = best[i];
        found_at[(row + 8 * i) * 16 + column] = best_at[i];
    }
    __syncthreads();
    if (t < TILE && first_query + t < s.queries) {
        float top = found[t * 16];
        unsigned top_at = found_at[t * 16];
        for (int i = 1; i < 16; ++i) {
            if (before(found[t * 16 + i], found_at[t * 16 + i], top, top_at)) {
                top = found[t * 16 + i];
                top_at = found_at[t * 16 + i];
            }
        }
        squares[static_cast<long long>(split) * s.queries + first_query + t] = top;
        places[static_cast<long long>(split) * s.queries + first_query + t] = top_at;
    }
}
