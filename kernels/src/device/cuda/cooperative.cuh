// Blocks of a cooperative launch that wait for each other (PTX ISA 6.0, section memory consistency model). An emulator
// on the host defines HOTAD_EMULATED and the first two functions itself.

#ifndef HOTAD_EMULATED

// Adds one to a counter; what this block has written before its last barrier is seen by whoever sees the count.
__device__ __forceinline__ unsigned announce(unsigned* counter) {
    unsigned before;
    asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;\n" : "=r"(before) : "l"(counter) : "memory");
    return before;
}

// Waits until a counter has reached a value; `blocks` is how many count there.
__device__ __forceinline__ void await_count(const unsigned* counter, unsigned value, unsigned blocks) {
    unsigned now;
    do {
        asm volatile("ld.acquire.gpu.global.u32 %0, [%1];\n" : "=r"(now) : "l"(counter) : "memory");
    } while (now < value);
}
#endif

// A barrier of all threads of `blocks` blocks that have the same counter, their `round`-th from 0; the counter was zero.
__device__ __forceinline__ void blocks_barrier(unsigned* counter, unsigned blocks, unsigned round) {
    __syncthreads();
    if (threadIdx.x == 0) {
        announce(counter);
        await_count(counter, blocks * (round + 1), blocks);
    }
    __syncthreads();
}

// Behind the last barrier, whose number of rounds is given: the last block to come here sets the counter back to zero.
__device__ __forceinline__ void blocks_done(unsigned* counter, unsigned blocks, unsigned rounds) {
    if (threadIdx.x == 0 && announce(counter) == blocks * (rounds + 1) - 1) *counter = 0;
}
