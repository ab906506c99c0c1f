// CUDA C++ on the host: what CubeCL's sources use, one fiber per thread. Every other header of the shim
// includes this one; the functions named emu_* are in scheduler.cpp and checker.cpp.
#pragma once
#include <math.h> // not <cmath>, with which sqrt(float) is double
#include <stdint.h>
#include <string.h>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __restrict__ __restrict

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }

namespace emu {
// Of the running thread; the scheduler sets them when it switches.
struct Indices { uint3 thread, block; dim3 block_dim, grid_dim; };
}
extern "C" {
extern emu::Indices emu_indices;
unsigned char* emu_shared();      // shared memory of the block
int emu_lane();                   // of the running thread
void emu_block_barrier(int line); // __syncthreads
// Waits for the warp; the last lane to arrive runs act(data of the 32 lanes).
void emu_warp(int line, int kind, void* data, void (*act)(void** data));
// Waits until `count` blocks of a cooperative launch wait at the counter, which has reached `value` then.
void emu_wait_for_blocks(const unsigned* counter, unsigned value, unsigned count);
void emu_fail(const char* what, int line);
void emu_atomic(void* p, size_t size);
}

#define threadIdx (emu_indices.thread)
#define blockIdx (emu_indices.block)
#define blockDim (emu_indices.block_dim)
#define gridDim (emu_indices.grid_dim)
#define warpSize 32
#define __syncthreads() emu_block_barrier(__LINE__)

// Arithmetic. CUDA's min and max of floats skip NaN, and mixed integers go to unsigned.
inline float max(float a, float b) { return fmaxf(a, b); }
inline float min(float a, float b) { return fminf(a, b); }
inline int max(int a, int b) { return a > b ? a : b; }
inline int min(int a, int b) { return a < b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
template <class To, class From> inline To emu_bits(From x) {
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To y;
    memcpy(&y, &x, sizeof y);
    return y;
}

// Threads of a block never run at the same time and switch at barriers alone. The checker is told of the
// access by emu_atomic, so that the plain one behind it is not instrumented.
#define EMU_ATOMIC __attribute__((noinline, no_sanitize("thread")))
template <class T> EMU_ATOMIC T atomicAdd(T* p, T v) {
    emu_atomic(p, sizeof *p);
    T old = *p;
    *p = old + v;
    return old;
}
