// Vectors as halves in the order in which tensor cores take them, with what the rounding has changed.
//
// A vector x becomes y = scale (x - centre), then halves y'. The centre is the bank's mean and the scale a power of
// two; neither changes the order of distances. Measured are N = |y'|^2 and e >= |y - y'|: whatever does not fit a
// half makes e large and no result wrong. A vector with an element that is no finite number is nobody's neighbour,
// and gets N = infinity. A block of 256 threads has 16 vectors; rows beyond the last are zeros with N = infinity.
//
// A piece of 16 x 16 elements is 512 bytes, of which a lane reads 16 at once and without conflicts. Lane 4 g + c of a
// warp has elements 4 c to 4 c + 3 of rows g and g + 8: of the bank row by row, the second operands of two m16n8k16;
// of queries two elements of each row in turn, the first operand of one.
//
// Macro: BANK. 1: `norms` has N (1 - rounding) of each row, `bounds` for each group of eight rows the largest e and
// 2 rounding times the largest N (first_pass.cu). 0: `norms` has N and e of each row, `bounds` is not written.

struct Rows {
    int tiles, rows, first, d, pieces;
    float scale, rounding;
};

struct __align__(16) Words { unsigned a, b, c, d; };

constexpr int WARPS = 8, TILE = 16;
constexpr float LARGEST = 6e4f; // of a half, nearly

__device__ __forceinline__ float infinity() { return __uint_as_float(0x7f800000u); }

// Of a row: N, |y - y'|^2, and the elements that are no finite numbers.
struct Sums { float square, error, broken; };

__device__ __forceinline__ unsigned halves_of(float x, float y, float scale, Sums& sums) {
    x *= scale, y *= scale;
    unsigned word = to_f16x2(fminf(fmaxf(x, -LARGEST), LARGEST), fminf(fmaxf(y, -LARGEST), LARGEST));
    float2 half = from_f16x2(word);
    sums.square = fmaf(half.y, half.y, fmaf(half.x, half.x, sums.square));
    x -= half.x, y -= half.y;
    sums.error = fmaf(y, y, fmaf(x, x, sums.error));
    return word;
}

__device__ __forceinline__ float broken(float x) { return fabsf(x) < infinity() ? 0.0f : 1.0f; }

// Four elements, of which none or all exist.
__device__ __forceinline__ void round_four(const float* from, const float* centre, bool exist, float scale,
                                           unsigned& low, unsigned& high, Sums& sums) {
    float4 x = {0.0f, 0.0f, 0.0f, 0.0f}, c = x;
    if (exist) {
        x = *reinterpret_cast<const float4*>(from);
        c = *reinterpret_cast<const float4*>(centre);
    }
    low = halves_of(x.x - c.x, x.y - c.y, scale, sums);
    high = halves_of(x.z - c.z, x.w - c.w, scale, sums);
    sums.broken += broken(x.x) + broken(x.y) + broken(x.z) + broken(x.w);
}

// Adds up the sums of the four lanes that share a row.
__device__ __forceinline__ void join(Sums& sums) {
    #pragma unroll
    for (int lanes = 1; lanes < 4; lanes *= 2) {
        sums.square += __shfl_xor_sync(0xffffffffu, sums.square, lanes);
        sums.error += __shfl_xor_sync(0xffffffffu, sums.error, lanes);
        sums.broken += __shfl_xor_sync(0xffffffffu, sums.broken, lanes);
    }
}

extern "C" __global__ void __launch_bounds__(32 * WARPS)
halves_of_rows(const float* from, const float* centre, float* halves, float* norms, float* bounds,
               const __grid_constant__ Rows s) {
extern __shared__ __align__(16) uint8 dynamic_shared_mem[];
    Sums* parts = reinterpret_cast<Sums*>(dynamic_shared_mem); // [warp][row]
    int tile = blockIdx.y * gridDim.x + blockIdx.x, t = threadIdx.x, warp = t / 32, lane = t % 32;
    if (tile >= s.tiles) return;
    int row = tile * TILE + lane / 4;
    Words* to = reinterpret_cast<Words*>(halves) + static_cast<long long>(tile) * s.pieces * 32 + lane;
    Sums upper = {0.0f, 0.0f, 0.0f}, lower = upper;
    for (int piece = warp; piece < s.pieces; piece += WARPS) {
        int element = piece * 16 + lane % 4 * 4;
        const float* own = from + static_cast<long long>(s.first + row) * s.d + element;
        bool exist = element < s.d;
        Words words;
        round_four(own, centre + element, exist && row < s.rows, s.scale, words.a, BANK ? words.b : words.c, upper);
        round_four(own + 8ll * s.d, centre + element, exist && row + 8 < s.rows, s.scale, BANK ? words.c : words.b, words.d,
                   lower);
        to[piece * 32] = words;
    }
    join(upper);
    join(lower);
    if (lane % 4 == 0) {
        parts[warp * TILE + lane / 4] = upper;
        parts[warp * TILE + lane / 4 + 8] = lower;
    }
    __syncthreads();

    Sums sums = {0.0f, 0.0f, 0.0f};
    row = tile * TILE + t;
    if (t < TILE) {
        for (int w = 0; w < WARPS; ++w) {
            sums.square += parts[w * TILE + t].square;
            sums.error += parts[w * TILE + t].error;
            sums.broken += parts[w * TILE + t].broken;
        }
        // The last two terms: what x - centre rounds, and numbers too small for their square.
        sums.error = sqrtf(sums.error) * 1.001f + sqrtf(sums.square) * 0x1p-23f + 1e-18f;
        bool counts = row < s.rows && sums.broken == 0.0f;
#if BANK
        norms[row] = counts ? sums.square * (1.0f - s.rounding) : infinity();
        if (!counts) sums.square = sums.error = 0.0f;
#else
        norms[2 * row] = counts ? sums.square : infinity();
        norms[2 * row + 1] = sums.error;
#endif
    }
#if BANK
    __syncthreads();
    if (t < TILE) parts[t] = sums;
    __syncthreads();
    if (t < TILE / 8) {
        float error = 0.0f, square = 0.0f;
        for (int i = 0; i < 8; ++i) {
            error = fmaxf(error, parts[t * 8 + i].error);
            square = fmaxf(square, parts[t * 8 + i].square);
        }
        int group = tile * (TILE / 8) + t;
        bounds[2 * group] = error;
        bounds[2 * group + 1] = 2.0f * s.rounding * square;
    }
#endif
}
