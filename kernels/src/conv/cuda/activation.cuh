// Activations (activation.rs): ACTIVATION is the number of a kind, `parameter` its slope or alpha.

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__device__ __forceinline__ float activate(float x, float parameter) {
#if ACTIVATION == 1 // ReLU
    return x > 0.0f ? x : 0.0f;
#elif ACTIVATION == 2 // ReLU6
    return x > 6.0f ? 6.0f : (x > 0.0f ? x : 0.0f);
#elif ACTIVATION == 3 // leaky ReLU
    return x > 0.0f ? x : parameter * x;
#elif ACTIVATION == 4 // ELU
    return x > 0.0f ? x : parameter * (expf(x) - 1.0f);
#elif ACTIVATION == 5
    return sigmoid(x);
#elif ACTIVATION == 6 // tanh
    return 1.0f - 2.0f / (expf(2.0f * x) + 1.0f);
#elif ACTIVATION == 7 // hard sigmoid
    return fminf(fmaxf(x + 3.0f, 0.0f), 6.0f) / 6.0f;
#elif ACTIVATION == 8 // hard swish
    return x * fminf(fmaxf(x + 3.0f, 0.0f), 6.0f) / 6.0f;
#else
    return x;
#endif
}
