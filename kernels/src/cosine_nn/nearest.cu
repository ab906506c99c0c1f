// The nearest of the bank vectors near a location by cosine, for a group of images and a share of the entries.
//
// A block of 256 threads serves one location and searches those up to `reach` rows and columns away. LANES threads share an entry and read 16 bytes of it each,
// UNROLL entries at a time; the products with the unit queries are added up across them by shuffles, and
// every group of lanes keeps its best. Bytes: the bank once for each group of images.
//
// Macros: HALF (1 for a bank of f16), DIM (elements of a vector), LANES (a power of two up to 32), GROUP (images),
// AMONG (1 where `among`, [image][entry], says which entries are searched).

struct Shape {
    int images, locations, entries, splits, per_split, columns, reach;
};

constexpr int THREADS = 256, TEAMS = THREADS / LANES, UNROLL = 4;
constexpr int WIDTH = HALF ? 8 : 4;                    // elements in 16 bytes
constexpr bool HELD = DIM <= LANES * WIDTH;            // whether a lane has the same elements of every entry

struct __align__(16) Words { unsigned a, b, c, d; };

// Inner product of 16 bytes of an entry with the query's elements there.
__device__ __forceinline__ float product(Words entry, const float* query, float sum) {
    const float4* q = reinterpret_cast<const float4*>(query);
#if HALF
    float4 first = q[0], second = q[1];
    float2 a = from_f16x2(entry.a), b = from_f16x2(entry.b), c = from_f16x2(entry.c), d = from_f16x2(entry.d);
    sum = fmaf(a.x, first.x, sum);
    sum = fmaf(a.y, first.y, sum);
    sum = fmaf(b.x, first.z, sum);
    sum = fmaf(b.y, first.w, sum);
    sum = fmaf(c.x, second.x, sum);
    sum = fmaf(c.y, second.y, sum);
    sum = fmaf(d.x, second.z, sum);
    return fmaf(d.y, second.w, sum);
#else
    float4 own = q[0];
    sum = fmaf(__uint_as_float(entry.a), own.x, sum);
    sum = fmaf(__uint_as_float(entry.b), own.y, sum);
    sum = fmaf(__uint_as_float(entry.c), own.z, sum);
    return fmaf(__uint_as_float(entry.d), own.w, sum);
#endif
}

// Over the lanes that share an entry; the same in all of them.
__device__ __forceinline__ float over_lanes(float sum) {
    #pragma unroll
    for (int lanes = LANES / 2; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
    return sum;
}

extern "C" __global__ void __launch_bounds__(THREADS)
nearest_cosine(const float* queries, const unsigned char* bank, const float* inverse_norms, const unsigned* among,
               unsigned* index, float* cosine, const __grid_constant__ Shape s) {
extern __shared__ __align__(16) uint8 dynamic_shared_mem[];
    float* query = reinterpret_cast<float*>(dynamic_shared_mem); // [GROUP][dim], of length one
    float* parts = query + GROUP * DIM;               // [GROUP][THREADS]
    unsigned* places = reinterpret_cast<unsigned*>(parts + GROUP * THREADS);
    int block = blockIdx.y * gridDim.x + blockIdx.x, t = threadIdx.x;
    int location = block % s.locations, split = block / s.locations % s.splits;
    int first_image = block / (s.locations * s.splits) * GROUP;
    if (first_image >= s.images) return;

    #pragma unroll
    for (int g = 0; g < GROUP; ++g) {
        int image = min(first_image + g, s.images - 1);
        const float* from = queries + (static_cast<long long>(image) * s.locations + location) * DIM;
        float square = 0.0f;
        for (int k = t; k < DIM; k += THREADS) {
            query[g * DIM + k] = from[k];
            square = fmaf(from[k], from[k], square);
        }
        parts[g * THREADS + t] = square;
    }
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (t < half) {
            #pragma unroll
            for (int g = 0; g < GROUP; ++g) parts[g * THREADS + t] += parts[g * THREADS + t + half];
        }
        __syncthreads();
    }
    float inverse[GROUP], best[GROUP];
    unsigned best_at[GROUP];
    #pragma unroll
    for (int g = 0; g < GROUP; ++g) {
        float norm = sqrtf(parts[g * THREADS]);
        inverse[g] = norm > 0.0f ? 1.0f / fmaxf(norm, 1e-37f) : 0.0f;
        best[g] = -3.4e38f;
        best_at[g] = 0;
    }

    int team = t / LANES, lane = t % LANES;
    __align__(16) float held[GROUP][HELD ? WIDTH : 1];
    if (HELD) {
        #pragma unroll
        for (int g = 0; g < GROUP; ++g) {
            #pragma unroll
            for (int i = 0; i < (HELD ? WIDTH : 1); ++i) held[g][i] = lane * WIDTH < DIM ? query[g * DIM + lane * WIDTH + i] : 0.0f;
        }
    }
    int begin = split * s.per_split, end = min(begin + s.per_split, s.entries);
    constexpr int BYTES = 16 / WIDTH; // of an element
    int row = location / s.columns, column = location % s.columns;
    int top = max(row - s.reach, 0), bottom = min(row + s.reach, s.locations / s.columns - 1);
    int left = max(column - s.reach, 0), width = min(column + s.reach, s.columns - 1) - left + 1;
    for (int near = 0; near < (bottom - top + 1) * width; ++near) {
        long long base = static_cast<long long>((top + near / width) * s.columns + left + near % width) * s.entries;
        const unsigned char* entries = bank + base * DIM * BYTES;
        for (int first = begin; first < end; first += TEAMS * UNROLL) {
            float sums[UNROLL][GROUP] = {};
            for (int k = lane * WIDTH; k < DIM; k += LANES * WIDTH) {
                Words words[UNROLL];
                #pragma unroll
                for (int u = 0; u < UNROLL; ++u) {
                    int entry = min(first + u * TEAMS + team, end - 1);
                    words[u] = *reinterpret_cast<const Words*>(entries + (static_cast<long long>(entry) * DIM + k) * BYTES);
                }
                #pragma unroll
                for (int u = 0; u < UNROLL; ++u) {
                    #pragma unroll
                    for (int g = 0; g < GROUP; ++g) {
                        const float* own = HELD ? held[g] : query + g * DIM + k;
                        sums[u][g] = product(words[u], own, sums[u][g]);
                    }
                }
            }
            #pragma unroll
            for (int u = 0; u < UNROLL; ++u) {
                int entry = first + u * TEAMS + team;
                float scale = inverse_norms[base + min(entry, end - 1)];
                #pragma unroll
                for (int g = 0; g < GROUP; ++g) {
                    float found = over_lanes(sums[u][g]) * scale * inverse[g];
                    int image = min(first_image + g, s.images - 1);
                    bool searched = entry < end && (!AMONG || among[static_cast<long long>(image) * s.entries + entry]);
                    if (searched && found > best[g]) {
                        best[g] = found;
                        best_at[g] = static_cast<unsigned>(base + entry);
                    }
                }
            }
        }
    }

    __syncthreads();
    if (lane == 0) {
        #pragma unroll
        for (int g = 0; g < GROUP; ++g) {
            parts[g * THREADS + team] = best[g];
            places[g * THREADS + team] = best_at[g];
        }
    }
    __syncthreads();
    if (t < GROUP && first_image + t < s.images) {
        float top = parts[t * THREADS];
        unsigned top_at = places[t * THREADS];
        for (int other = 1; other < TEAMS; ++other) {
            float value = parts[t * THREADS + other];
            unsigned place = places[t * THREADS + other];
            if (value > top || (value == top && place < top_at)) {
                top = value;
                top_at = place;
            }
        }
        long long to = (static_cast<long long>(split) * s.images + first_image + t) * s.locations + location;
        index[to] = top_at;
        cosine[to] = top;
    }
}
