// Asynchronous copies, conversions and products of a warp (PTX ISA 7.0, sm_80 and newer). An emulator on the
// host defines HOTAD_EMULATED and these functions itself.
#include <cuda_runtime.h>

typedef unsigned char uint8;

#ifndef HOTAD_EMULATED

// Copies 16 bytes from global to shared memory, or writes zeros; completes by `copies_arrived`.
__device__ __forceinline__ void copy16(float* to, const float* from, bool exists) {
    unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(to));
    int bytes = exists ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(at), "l"(from), "r"(bytes));
}

// Ends a group of copies of this thread.
__device__ __forceinline__ void copies_issued() { asm volatile("cp.async.commit_group;\n" ::); }

// Waits until at most `later` of this thread's groups are still under way.
template <int later> __device__ __forceinline__ void copies_arrived() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(later));
}

// To 10 bits of mantissa, nearest.
__device__ __forceinline__ unsigned to_tf32(float x) {
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(bits) : "f"(x));
    return bits;
}

// Two halves in a word, the first in its low bits.
__device__ __forceinline__ unsigned to_f16x2(float first, float second) {
    unsigned bits;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;\n" : "=r"(bits) : "f"(second), "f"(first));
    return bits;
}
__device__ __forceinline__ unsigned to_bf16x2(float first, float second) {
    unsigned bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(bits) : "f"(second), "f"(first));
    return bits;
}

// The two halves of a word, the first from its low bits.
__device__ __forceinline__ float2 from_f16x2(unsigned bits) {
    float2 both;
    asm("{.reg .f16 low, high; mov.b32 {low, high}, %2; cvt.f32.f16 %0, low; cvt.f32.f16 %1, high;}\n"
        : "=f"(both.x), "=f"(both.y)
        : "r"(bits));
    return both;
}

// sums += a b for a 16 x 8 tile of sums. With g = lane / 4, c = lane % 4: sums are (g, 2c), (g, 2c + 1),
// (g + 8, 2c), (g + 8, 2c + 1); a is (g, c), (g + 8, c), (g, c + 4), (g + 8, c + 4) and b (c, g), (c + 4, g), where
// c counts single terms in tf32 and pairs of terms in f16 and bf16.
#define HOTAD_MMA(NAME, SHAPE)                                                                             \
    __device__ __forceinline__ void NAME(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { \
        asm("mma.sync.aligned." SHAPE " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"              \
            : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])                                     \
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                             \
    }
HOTAD_MMA(mma_tf32, "m16n8k8.row.col.f32.tf32.tf32.f32")
HOTAD_MMA(mma_f16, "m16n8k16.row.col.f32.f16.f16.f32")
HOTAD_MMA(mma_bf16, "m16n8k16.row.col.f32.bf16.bf16.f32")
#endif
