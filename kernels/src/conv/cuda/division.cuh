// Division by a number that the host knows (division.rs).

// n / d for n below 2^31 (Granlund and Montgomery 1994): magic = ceil(2^(32 + shift) / d); shift < 0 for d = 1.
struct Division {
    unsigned magic;
    int shift;
};

__device__ __forceinline__ int divide(int n, Division d) {
    return d.shift < 0 ? n : static_cast<int>(__umulhi(static_cast<unsigned>(n), d.magic) >> d.shift);
}
