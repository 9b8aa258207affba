// The device code's platform without a GPU: a block is TEAM threads of the operating system, LANES of them a warp.
//
// With one thread barriers are nothing. With more, each is a thread that ThreadSanitizer knows: it reports what a barrier fails
// to order.
#pragma once
#include <cmath>
#include <cstdint>
#include <pthread.h>

#ifndef TEAM
#define TEAM 1
#endif
#ifndef LANES
#define LANES 1
#endif
#define DEVICE static inline
#define UNROLL
#define UNROLL_SOME

static thread_local int this_thread = 0;
static float told[TEAM];  // what the lanes of a warp tell one another
static int left_out = 0;  // the number of a barrier of the block that is left out: what a check must find

// Threads that wait for one another, each time at the next of several barriers: ThreadSanitizer takes whatever was written
// before anybody came to a barrier for known to those who leave it, also what a thread that ran ahead wrote before coming to it
// again.
template <int SIZE> struct Meetings {
    static constexpr int MANY = 8;
    pthread_barrier_t barriers[MANY];
    int met[TEAM];  // how often each thread was here
    Meetings() {
        for (auto& barrier : barriers) pthread_barrier_init(&barrier, nullptr, SIZE);
        for (int& count : met) count = 0;
    }
    void wait(bool counts) {
        const int number = ++met[this_thread];
        if (SIZE > 1 && !(counts && number == left_out)) pthread_barrier_wait(&barriers[number % MANY]);
    }
};
struct Barriers {
    Meetings<TEAM> of_block;
    Meetings<LANES> of_warp[TEAM / LANES];
};
static Barriers* barriers = nullptr;  // of the team that works at present

struct Block {
    int rank;
    static constexpr int size = TEAM;
    void sync() const { barriers->of_block.wait(true); }
};
struct Warp {
    int rank;
    static constexpr int size = LANES;
    void sync() const { barriers->of_warp[this_thread / LANES].wait(false); }
    template <class F> float all(float x, F f) const {
        told[this_thread] = x;
        sync();
        float found = told[this_thread / LANES * LANES];
        for (int lane = 1; lane < LANES; lane++) found = f(found, told[this_thread / LANES * LANES + lane]);
        sync();
        return found;
    }
    float sum(float x) const {
        return all(x, [](float a, float b) { return a + b; });
    }
    float largest(float x) const {
        return all(x, [](float a, float b) { return b > a ? b : a; });
    }
};
DEVICE unsigned high_product(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
DEVICE float square_root(float x) { return std::sqrt(x); }
DEVICE float exponential(float x) { return std::exp(x); }
DEVICE float logarithm(float x) { return std::log(x); }
DEVICE float cosine_of_turns(float x) { return std::cos(6.283185307f * x); }
DEVICE float sine_of_turns(float x) { return std::sin(6.283185307f * x); }
DEVICE float hyperbolic_tangent(float x) { return std::tanh(x); }
