// What warp.cuh does in PTX, on the host.
#pragma once
#define HOTAD_EMULATED

struct float2 { float x, y; };
struct __attribute__((aligned(16))) float4 { float x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }

inline unsigned __float_as_uint(float x) { return emu_bits<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return emu_bits<float>(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
// A read past the first-level cache, of what other blocks wrote before a fence and a count that this one saw.
__attribute__((noinline, no_sanitize("thread"))) inline float __ldcg(const float* p) {
    emu_atomic(const_cast<float*>(p), sizeof *p);
    return *p;
}
#define __threadfence() ((void)0)

// Of cooperative.cuh.
inline unsigned announce(unsigned* counter) { return atomicAdd(counter, 1u); }
inline void await_count(const unsigned* counter, unsigned value, unsigned blocks) { emu_wait_for_blocks(counter, value, blocks); }

// A copy is made when it is issued: a source that is read too early is not seen, one that is overwritten too
// early is.
inline void copy16(float* to, const float* from, bool exists) {
    if (reinterpret_cast<uintptr_t>(to) % 16 || reinterpret_cast<uintptr_t>(from) % 16) {
        emu_fail("an asynchronous copy of 16 bytes that is not aligned to them", __LINE__);
    }
    for (int i = 0; i < 4; ++i) to[i] = exists ? from[i] : 0.0f;
}
inline void copies_issued() {}
template <int later> inline void copies_arrived() {}

// Conversions, to the nearest.
inline unsigned to_tf32(float x) { return (__float_as_uint(x) + 0x1000u) & 0xffffe000u; }
inline unsigned half_bits(float x) { return emu_bits<uint16_t>(_Float16(x)); }
inline float half_value(unsigned bits) { return float(emu_bits<_Float16>(uint16_t(bits))); }
inline unsigned bf16_bits(float x) {
    unsigned bits = __float_as_uint(x);
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}
inline unsigned to_f16x2(float first, float second) { return half_bits(first) | half_bits(second) << 16; }
inline unsigned to_bf16x2(float first, float second) { return bf16_bits(first) | bf16_bits(second) << 16; }
inline float2 from_f16x2(unsigned bits) { return {half_value(bits & 0xffffu), half_value(bits >> 16)}; }

// Products of a warp: lanes give their registers, the last to arrive multiplies for all. Which lane holds
// what is in warp.cuh.
namespace emu {
enum Operand { TF32, F16, BF16 };
struct Registers { float* sums; const unsigned *a, *b; };

template <Operand kind> float term(unsigned word, int which) {
    if (kind == TF32) return __uint_as_float(word & 0xffffe000u);
    unsigned half = which ? word >> 16 : word & 0xffffu;
    return kind == F16 ? half_value(half) : __uint_as_float(half << 16);
}

template <Operand kind> __attribute__((no_sanitize("thread"))) void multiply_tile(void** data) {
    constexpr int per_word = kind == TF32 ? 1 : 2, terms = 8 * per_word;
    float a[16][terms], b[terms][8];
    for (int lane = 0; lane < 32; ++lane) {
        auto* own = static_cast<Registers*>(data[lane]);
        int g = lane / 4, c = lane % 4;
        for (int i = 0; i < per_word; ++i) {
            int first = c * per_word + i, second = (c + 4) * per_word + i;
            a[g][first] = term<kind>(own->a[0], i);
            a[g + 8][first] = term<kind>(own->a[1], i);
            a[g][second] = term<kind>(own->a[2], i);
            a[g + 8][second] = term<kind>(own->a[3], i);
            b[first][g] = term<kind>(own->b[0], i);
            b[second][g] = term<kind>(own->b[1], i);
        }
    }
    for (int lane = 0; lane < 32; ++lane) {
        auto* own = static_cast<Registers*>(data[lane]);
        for (int i = 0; i < 4; ++i) {
            int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
            float sum = 0.0f;
            for (int k = 0; k < terms; ++k) sum += a[row][k] * b[k][column];
            own->sums[i] += sum;
        }
    }
}

template <Operand kind>
void multiply(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2], int line) {
    Registers own{sums, a, b};
    emu_warp(line, 20 + kind, &own, multiply_tile<kind>);
}

// A value of another lane: of lane XOR `lanes`, or of so many lanes before, the own one where there is none.
enum Exchange { XOR, UP };
template <class T> struct Exchanged { T value, result; int lanes; };
template <Exchange kind, class T> __attribute__((no_sanitize("thread"))) void exchange(void** data) {
    for (int lane = 0; lane < 32; ++lane) {
        auto* own = static_cast<Exchanged<T>*>(data[lane]);
        int other = kind == XOR ? lane ^ own->lanes : lane < own->lanes ? lane : lane - own->lanes;
        own->result = static_cast<Exchanged<T>*>(data[other])->value;
    }
}
template <Exchange kind, class T> T shuffle(T value, int lanes, int line) {
    Exchanged<T> own{value, value, lanes};
    emu_warp(line, 30 + kind, &own, exchange<kind, T>);
    return own.result;
}
}
#define mma_tf32(sums, a, b) emu::multiply<emu::TF32>(sums, a, b, __LINE__)
#define mma_f16(sums, a, b) emu::multiply<emu::F16>(sums, a, b, __LINE__)
#define mma_bf16(sums, a, b) emu::multiply<emu::BF16>(sums, a, b, __LINE__)
#define __shfl_xor_sync(mask, value, lanes) emu::shuffle<emu::XOR>(value, lanes, __LINE__)
#define __shfl_up_sync(mask, value, lanes) emu::shuffle<emu::UP>(value, lanes, __LINE__)
