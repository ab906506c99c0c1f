// The nearest vectors of each query, measured in f32 among those that bounds leave.
//
// y and y' as in halves.cu. By the triangle inequality scale |q - b| differs from |q' - b'| by at most e_q + e_b.
// With the least of each group of eight vectors (first_pass.cu) and the largest e_b and N_b of a group
//
//   no vector of it is nearer than  sqrt(least + N_q (1 - rounding)) - e_q - e_b   and
//   one of it is at most            sqrt(least + N_q (1 + rounding) + 2 rounding N_b) + e_q + e_b   away.
//
// The k-th smallest of the latter among any groups bounds the k-th smallest distance. Groups are dealt to 32 lanes;
// the bound is the k-th smallest of the lanes' minima. Every group whose first bound is not above it is measured:
// squared differences of the vectors as they are, each warp one vector of eight, lanes take four elements each in
// turn and are added up by halves. What f32 rounds there widens the bound by `widen`, numbers too small for their
// square by `slack`.
//
// A found vector is a 64-bit number, the bits of its squared distance above its place: that is the order of
// distance and index. A block of 256 threads has one query, six share a multiprocessor (40 registers). Bytes: 24 for
// each group, 32 d for each one measured.
//
// Macro: DIM (d, a multiple of 4).

struct Search {
    int first, vectors, groups, k;
    float rounding, widen, slack;
};

typedef unsigned long long Found;

constexpr int WARPS = 8, THREADS = 32 * WARPS, QUADS = DIM / 4;
constexpr int LIST = 4096; // groups that are looked at, and may be measured, at a time
constexpr unsigned ALL = 0xffffffffu;

__device__ __forceinline__ float infinity() { return __uint_as_float(0x7f800000u); }

__device__ __forceinline__ Found found(float square, unsigned place) {
    return static_cast<Found>(__float_as_uint(square)) << 32 | place;
}

// After all that is found. Squares above this one, and what is no number, are not.
__device__ __forceinline__ Found none() { return found(3.4e38f, 0xffffffffu); }

// The smallest so far, ascending by lane, with one more among them.
__device__ __forceinline__ Found insert(Found best, Found one) {
    Found before = __shfl_up_sync(ALL, best, 1);
    if (one >= best) return best;
    return threadIdx.x % 32 > 0 && one < before ? before : one;
}

__device__ __forceinline__ float add_square(float a, float b, float sum) {
    float e = a - b;
    return fmaf(e, e, sum);
}

__device__ __forceinline__ float square_of(const float4* query, const float4* vector) {
    float sum = 0.0f;
    #pragma unroll 2
    for (int i = threadIdx.x % 32; i < QUADS; i += 32) {
        float4 q = query[i], b = vector[i];
        sum = add_square(q.x, b.x, sum);
        sum = add_square(q.y, b.y, sum);
        sum = add_square(q.z, b.z, sum);
        sum = add_square(q.w, b.w, sum);
    }
    #pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(ALL, sum, lanes);
    return sum;
}

// The k-th smallest of the values of a warp's lanes.
__device__ __forceinline__ float kth_smallest(float value, int k) {
    int lane = threadIdx.x % 32, rank = 0;
    for (int i = 1; i < 32; ++i) {
        float other = __shfl_xor_sync(ALL, value, i);
        if (other < value || (other == value && (lane ^ i) < lane)) ++rank;
    }
    float chosen = rank == k - 1 ? value : infinity();
    #pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) chosen = fminf(chosen, __shfl_xor_sync(ALL, chosen, lanes));
    return chosen;
}

struct __align__(16) Shared {
    Found best[WARPS][32];
    unsigned short list[LIST]; // from the first one looked at
    float least[THREADS];
    unsigned count;
    float bound;
    unsigned unused[2];
};

// What a query and the groups of a bank say of each other.
struct Bounds {
    const float2* groups; // largest e, 2 rounding N
    const float* least;
    float below, above, error; // N_q less and more what may be wrong, e_q

    __device__ __forceinline__ float nearest(int g) const {
        return sqrtf(fmaxf(least[g] + below, 0.0f)) - error - groups[g].x;
    }
    __device__ __forceinline__ float farthest(int g) const {
        float2 group = groups[g];
        return sqrtf(fmaxf(least[g] + above + group.y, 0.0f)) + error + group.x;
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, 6)
nearest_of_candidates(const float* query, const float* bank, const float* norms, const float* bounds,
                      const float* least, unsigned* index, float* distance, const __grid_constant__ Search s) {
extern __shared__ __align__(16) uint8 dynamic_shared_mem[];
    Shared& shared = *reinterpret_cast<Shared*>(dynamic_shared_mem);
    float4* own = reinterpret_cast<float4*>(dynamic_shared_mem + sizeof(Shared));
    int row = blockIdx.y * gridDim.x + blockIdx.x, t = threadIdx.x, warp = t / 32, lane = t % 32;
    const float4* from = reinterpret_cast<const float4*>(query + static_cast<long long>(s.first + row) * DIM);
    for (int i = t; i < QUADS; i += THREADS) own[i] = from[i];

    float norm = norms[2 * row];
    Bounds b = {reinterpret_cast<const float2*>(bounds), least + static_cast<long long>(row) * s.groups,
                norm * (1.0f - s.rounding), norm * (1.0f + s.rounding), norms[2 * row + 1]};
    float nearest = infinity();
    for (int g = t; g < s.groups; g += THREADS) nearest = fminf(nearest, b.farthest(g));
    shared.least[t] = nearest;
    __syncthreads();
    if (warp == 0) {
        for (int w = 1; w < WARPS; ++w) nearest = fminf(nearest, shared.least[w * 32 + lane]);
        nearest = kth_smallest(nearest, s.k);
        if (lane == 0) shared.bound = nearest * s.widen + s.slack;
    }

    // A query that is not all numbers has no neighbours.
    int groups = norm < infinity() ? s.groups : 0;
    Found best = none();
    for (int start = 0; start < groups; start += LIST) {
        if (t == 0) shared.count = 0;
        __syncthreads();
        for (int g = start + t; g < min(start + LIST, groups); g += THREADS) {
            if (b.nearest(g) <= shared.bound) shared.list[atomicAdd(&shared.count, 1u)] = g - start;
        }
        __syncthreads();
        for (unsigned i = 0; i < shared.count; ++i) {
            unsigned place = (start + shared.list[i]) * 8 + warp;
            if (place >= static_cast<unsigned>(s.vectors)) continue;
            const float* vector = bank + static_cast<long long>(place) * DIM;
            best = insert(best, found(square_of(own, reinterpret_cast<const float4*>(vector)), place));
        }
        __syncthreads();
    }

    shared.best[warp][lane] = best;
    __syncthreads();
    if (warp > 0) return;
    for (int w = 1; w < WARPS; ++w) {
        for (int i = 0; i < s.k; ++i) best = insert(best, shared.best[w][i]);
    }
    if (lane < s.k) {
        // Where nothing is left the first vector is named, without a distance.
        bool exists = best < none();
        long long at = static_cast<long long>(s.first + row) * s.k + lane;
        index[at] = exists ? static_cast<unsigned>(best) : 0;
        distance[at] = exists ? sqrtf(__uint_as_float(static_cast<unsigned>(best >> 32))) : infinity();
    }
}
