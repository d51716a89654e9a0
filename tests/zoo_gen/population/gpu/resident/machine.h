// What `machine.cuh` has of a GPU, on a CPU: a thread block whose threads take turns, and matrix units in plain loops.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#include <vector>

typedef uint32_t u32;
typedef unsigned long long u64;
#define DEVICE static inline
#define __global__
#define __launch_bounds__(...)

struct Triple { int x, y, z; };
static Triple threadIdx, blockIdx;
static std::vector<char> shared_memory;
static char* shared;

struct Warp { char slots[2][32][64]; int arrived = 0; long passed = 0; };
static std::vector<ucontext_t> contexts;
static std::vector<char> ended;
static std::vector<Warp> warps;
static std::vector<int> turns;  // of a thread, which of its warp's slots comes next
static ucontext_t outside;
static int current, n_threads, n_waiting;
static long n_barriers;

static void pass_turn() {
    const int self = current;
    for (int next = (self + 1) % n_threads;; next = (next + 1) % n_threads)
        if (!ended[next]) {
            if (next == self) return;
            current = next;
            threadIdx.x = next;
            swapcontext(&contexts[self], &contexts[next]);
            return;
        }
}
static void barrier() {
    const long now = n_barriers;
    if (++n_waiting == n_threads) {
        n_waiting = 0;
        ++n_barriers;
    } else {
        while (n_barriers == now) pass_turn();
    }
}
// Every lane gives something and sees what all gave.
template <class T> static const char (*exchange(const T& mine))[64] {
    static_assert(sizeof(T) <= 64, "");
    Warp& warp = warps[current / 32];
    const int slot = turns[current] ^= 1;
    std::memcpy(warp.slots[slot][current % 32], &mine, sizeof mine);
    const long now = warp.passed;
    if (++warp.arrived == 32) {
        warp.arrived = 0;
        ++warp.passed;
    } else {
        while (warp.passed == now) pass_turn();
    }
    return warp.slots[slot];
}
template <class T> static T read(const char* from) {
    T x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

template <class T> static T& at(int place) {
    if (place < 0 || place + sizeof(T) > shared_memory.size() || place % sizeof(T) % 16 % alignof(T)) {
        std::fprintf(stderr, "shared memory: %d\n", place);
        std::abort();
    }
    return *reinterpret_cast<T*>(shared + place);
}
template <class T, class S> static T reinterpret_bits(S x) {
    T y;
    std::memcpy(&y, &x, sizeof y);
    return y;
}
template <class T> static T from_lane(T x, int mask) { return read<T>(exchange(x)[(current % 32) ^ mask]); }
static void count_one(int place) { ++at<int>(place); }
static u32 shared_start() { return 0; }
template <class T> static T min(T a, T b) { return a < b ? a : b; }

static void load(bool transposed, int place, int count, u32** to) {
    const char(*places)[64] = exchange(place);
    const int lane = current % 32;
    for (int matrix = 0; matrix < count; ++matrix) {
        unsigned short pair[2];
        for (int i = 0; i < 2; ++i) {
            const int r = transposed ? lane % 4 * 2 + i : lane / 4, c = transposed ? lane / 4 : lane % 4 * 2 + i;
            const int row = read<int>(places[matrix * 8 + r]);
            if (row % 16) std::abort();
            pair[i] = at<unsigned short>(row + 2 * c);
        }
        *to[matrix] = pair[0] | (u32)pair[1] << 16;
    }
}
#define STRAIGHT false
#define TRANSPOSED true
#define LOAD1(form, place, a) { u32* to[] = {&a}; load(form, place, 1, to); }
#define LOAD2(form, place, a, b) { u32* to[] = {&a, &b}; load(form, place, 2, to); }
#define LOAD4(form, place, a, b, c, d) { u32* to[] = {&a, &b, &c, &d}; load(form, place, 4, to); }

struct Operands { u32 a[4], b[2]; };
static float number(u32 bits) { return reinterpret_bits<float>(bits); }
static void multiply_bf16(float* c, const u32* a, u32 b0, u32 b1) {
    const char(*all)[64] = exchange(Operands{{a[0], a[1], a[2], a[3]}, {b0, b1}});
    const int lane = current % 32;
    for (int i = 0; i < 4; ++i) {
        const int m = lane / 4 + i / 2 * 8, n = lane % 4 * 2 + i % 2;
        for (int k = 0; k < 16; ++k) {
            const u32 left = read<Operands>(all[m % 8 * 4 + k % 8 / 2]).a[m / 8 + k / 8 * 2];
            const u32 right = read<Operands>(all[n * 4 + k % 8 / 2]).b[k / 8];
            c[i] += number(k % 2 ? left & 0xffff0000u : left << 16) * number(k % 2 ? right & 0xffff0000u : right << 16);
        }
    }
}
static void multiply_tf32(float* c, const u32* a, u32 b0, u32 b1) {
    const char(*all)[64] = exchange(Operands{{a[0], a[1], a[2], a[3]}, {b0, b1}});
    const int lane = current % 32;
    for (int i = 0; i < 4; ++i) {
        const int m = lane / 4 + i / 2 * 8, n = lane % 4 * 2 + i % 2;
        for (int k = 0; k < 8; ++k) {
            const u32 left = read<Operands>(all[m % 8 * 4 + k % 4]).a[m / 8 + k / 4 * 2];
            const u32 right = read<Operands>(all[n * 4 + k % 4]).b[k / 4];
            c[i] += number(left & 0xffffe000u) * number(right & 0xffffe000u);
        }
    }
}
static u32 rounded(float a, int bits) {
    u32 x = reinterpret_bits<u32>(a);
    if ((x & 0x7f800000u) == 0x7f800000u) return x;
    const u32 unit = 1u << bits;
    if (bits == 16) return (x + (unit / 2 - 1) + ((x >> 16) & 1)) & ~(unit - 1);
    return (x + unit / 2) & ~(unit - 1);
}
static u32 rounded_pair(float a, float b) { return rounded(a, 16) >> 16 | rounded(b, 16); }
static u32 rounded_tf32(float a) { return rounded(a, 13); }
static float rough_tanh(float z) { return std::tanh(z); }
static float greater(float a, float b) { return std::isnan(a) || std::isnan(b) ? NAN : a > b ? a : b; }
static u32 bytes_of(u32 word, u32 selector) {
    u32 result = 0;
    for (int i = 0; i < 4; ++i) {
        const u32 which = selector >> (4 * i) & 7;
        result |= (which < 4 ? word >> (8 * which) & 255u : 0u) << (8 * i);
    }
    return result;
}
static float divided(float a, float b) { return a / b; }
static float root(float a) { return std::sqrt(a); }
