// One step of a small model with all kinds of layers, as a program: built with a thread for each lane under ThreadSanitizer it
// finds missing barriers, built with AddressSanitizer what is read or written outside an array. The first word of its command
// line is the number of a barrier to be left out.
#include "emulate.cpp"

#include <cstdio>
#include <random>

// Memory of exactly so many numbers.
template <class X> static X* array(long long size) { return (X*)std::aligned_alloc(16, (size * sizeof(X) + 15) / 16 * 16); }

static std::mt19937 source;
static float* uniform(long long size, float bound) {
    float* numbers = array<float>(size);
    for (long long i = 0; i < size; i++) numbers[i] = bound * (2.f * source() / 4294967296.f - 1);
    return numbers;
}

int main(int count, char** words) {
    if (count > 1) left_out = std::atoi(words[1]);
    constexpr int seeds = 2, groups = 2, heads = 3, blocks = seeds * groups;
    Step step = {};
    for (int kind : {LINEAR, SOFTMAX, MESA, SOFTMAX, LINEAR}) step.kinds[step.depth++] = kind;
    step.heads = heads, step.sequences = 3, step.groups = groups, step.clip = 0.5f, step.lam_floor = 1e-6f, step.backward = 1;
    step.tokens_kind = RAW ? GIVEN : CONSTRUCTED, step.tokens_apart = step.targets_apart = (T + 1) * N;
    float* observations = uniform(seeds * step.sequences * (T + 1) * N, 1);
    const int model = packed_model(step.depth, heads);
    step.tokens = observations, step.targets = observations + N, step.packed = uniform((long long)seeds * model, 0.2f);
    step.table = D_PE > 0 ? uniform(seeds * heads * TABLE, 0.2f) : nullptr;
    step.partials = array<float>((long long)blocks * model), step.table_partials = array<float>(blocks * heads * TABLE);
    step.losses = array<double>(blocks), step.stream = array<float>((long long)blocks * (2 * step.depth + 1) * STREAM);
    step.kept = array<float>((long long)blocks * step.depth * heads * KEPT), step.spill = array<float>(blocks * PLACES.in_device);
    mesaopt_step(&step, blocks);
    double loss = 0;
    for (int i = 0; i < blocks; i++) loss += step.losses[i];
    std::printf("loss %.6f\n", loss / (seeds * step.sequences * T));
}
