// nvcuda::wmma. A lane holds elements lane, lane + 32, ... of the tile, row by row: which lane holds what
// is not specified by CUDA, so no kernel may look.
#pragma once
#include "emu.h"
namespace nvcuda { namespace wmma {
struct matrix_a; struct matrix_b; struct accumulator; struct row_major; struct col_major;
namespace precision { struct tf32; }
enum layout_t { mem_row_major, mem_col_major };
template <class E> struct storage { using type = E; };
template <> struct storage<precision::tf32> { using type = float; };
template <class U, int M, int N, int K> struct shape;
template <int M, int N, int K> struct shape<matrix_a, M, N, K> { enum { rows = M, columns = K }; };
template <int M, int N, int K> struct shape<matrix_b, M, N, K> { enum { rows = K, columns = N }; };
template <int M, int N, int K> struct shape<accumulator, M, N, K> { enum { rows = M, columns = N }; };
template <class U, int M, int N, int K, class E, class L = void> struct fragment {
    using T = typename storage<E>::type;
    enum { rows = shape<U, M, N, K>::rows, columns = shape<U, M, N, K>::columns, num_elements = rows * columns / 32 };
    T x[num_elements];
};
inline float __float_to_tf32(float x) { // cvt.rna.tf32.f32: nearest, ties away from zero
    uint32_t b = emu_bits<uint32_t>(x);
    if ((b & 0x7f800000u) == 0x7f800000u) return x;
    return emu_bits<float>((b + 0x1000u) & 0xffffe000u);
}
template <class F, class V> void fill_fragment(F& f, V v) {
    for (int i = 0; i < F::num_elements; ++i) f.x[i] = typename F::T(v);
}
namespace detail {
template <class T> void check(const T* p, unsigned ldm, int line) {
    if (reinterpret_cast<uintptr_t>(p) % 32) emu_fail("wmma: pointer not aligned to 32 bytes", line);
    if (ldm * sizeof(T) % 16) emu_fail("wmma: stride not a multiple of 16 bytes", line);
}
template <class F, class T> void load(F& f, const T* p, unsigned ldm, bool row, int line) {
    check(p, ldm, line);
    emu_warp(line, 9, nullptr, nullptr);
    int lane = emu_lane();
    for (int i = 0; i < F::num_elements; ++i) {
        int at = i * 32 + lane, r = at / F::columns, c = at % F::columns;
        f.x[i] = p[row ? r * ldm + c : c * ldm + r];
    }
}
// Tensor cores ignore the low bits of tf32 operands.
template <class E, class T> float operand(T v) { return float(v); }
template <> inline float operand<precision::tf32, float>(float v) {
    return emu_bits<float>(emu_bits<uint32_t>(v) & 0xffffe000u);
}
struct Four { void *d; const void *a, *b, *c; };
template <int M, int N, int K, class E, class FD, class FA, class FB, class FC> void product(void** data) {
    float a[M * K], b[K * N];
    for (int lane = 0; lane < 32; ++lane) {
        auto* four = static_cast<Four*>(data[lane]);
        auto* fa = static_cast<const FA*>(four->a);
        auto* fb = static_cast<const FB*>(four->b);
        for (int i = 0; i < FA::num_elements; ++i) a[i * 32 + lane] = operand<E>(fa->x[i]);
        for (int i = 0; i < FB::num_elements; ++i) b[i * 32 + lane] = operand<E>(fb->x[i]);
    }
    float c[M * N];
    for (int i = 0; i < M * N; ++i) c[i] = 0.0f;
    for (int m = 0; m < M; ++m)
        for (int k = 0; k < K; ++k)
            for (int n = 0; n < N; ++n) c[m * N + n] += a[m * K + k] * b[k * N + n];
    for (int lane = 0; lane < 32; ++lane) {
        auto* four = static_cast<Four*>(data[lane]);
        auto* fc = static_cast<const FC*>(four->c);
        auto* fd = static_cast<FD*>(four->d);
        for (int i = 0; i < FC::num_elements; ++i)
            fd->x[i] = typename FD::T(float(fc->x[i]) + c[i * 32 + lane]);
    }
}
template <int M, int N, int K, class E, class LA, class LB, class D, class C>
void multiply(fragment<accumulator, M, N, K, D>& d, const fragment<matrix_a, M, N, K, E, LA>& a,
              const fragment<matrix_b, M, N, K, E, LB>& b, const fragment<accumulator, M, N, K, C>& c, int line) {
    Four four{&d, &a, &b, &c};
    emu_warp(line, 10, &four,
                  product<M, N, K, E, fragment<accumulator, M, N, K, D>, fragment<matrix_a, M, N, K, E, LA>,
                          fragment<matrix_b, M, N, K, E, LB>, fragment<accumulator, M, N, K, C>>);
}
}
template <class U, int M, int N, int K, class E, class T>
void load_matrix_sync(fragment<U, M, N, K, E, row_major>& f, const T* p, unsigned ldm, int line = __builtin_LINE()) {
    detail::load(f, p, ldm, true, line);
}
template <class U, int M, int N, int K, class E, class T>
void load_matrix_sync(fragment<U, M, N, K, E, col_major>& f, const T* p, unsigned ldm, int line = __builtin_LINE()) {
    detail::load(f, p, ldm, false, line);
}
template <int M, int N, int K, class E, class T>
void load_matrix_sync(fragment<accumulator, M, N, K, E>& f, const T* p, unsigned ldm, layout_t l, int line = __builtin_LINE()) {
    detail::load(f, p, ldm, l == mem_row_major, line);
}
template <int M, int N, int K, class E, class T>
void store_matrix_sync(T* p, const fragment<accumulator, M, N, K, E>& f, unsigned ldm, layout_t l, int line = __builtin_LINE()) {
    using F = fragment<accumulator, M, N, K, E>;
    detail::check(p, ldm, line);
    emu_warp(line, 11, nullptr, nullptr);
    int lane = emu_lane();
    for (int i = 0; i < F::num_elements; ++i) {
        int at = i * 32 + lane, r = at / F::columns, c = at % F::columns;
        p[l == mem_row_major ? r * ldm + c : c * ldm + r] = T(f.x[i]);
    }
}
template <class FD, class FA, class FB, class FC>
void mma_sync(FD& d, const FA& a, const FB& b, const FC& c, int line = __builtin_LINE()) {
    detail::multiply(d, a, b, c, line);
}
} }
