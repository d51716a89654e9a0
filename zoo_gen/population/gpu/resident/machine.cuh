// What only a GPU has: shared memory, barriers, shuffles, the matrix units, and rounding in one instruction.

typedef unsigned int u32;
typedef unsigned long long u64;
#define DEVICE __device__ __forceinline__

extern __shared__ __align__(16) char shared[];

template <class T> DEVICE T& at(int place) { return *reinterpret_cast<T*>(shared + place); }
template <class T, class S> DEVICE T reinterpret_bits(S x) {
    union { S from; T to; } both;
    both.from = x;
    return both.to;
}
DEVICE void barrier() { __syncthreads(); }
template <class T> DEVICE T from_lane(T x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
DEVICE void count_one(int place) { atomicAdd(reinterpret_cast<int*>(shared + place), 1); }

DEVICE u32 shared_start() {
    u32 start;
    asm("{ .reg .u64 s; cvta.to.shared.u64 s, %1; cvt.u32.u64 %0, s; }" : "=r"(start) : "l"(shared));
    return start;
}
// Eight by eight elements of 16 bits a matrix: each lane gives the place of one row and gets two elements of a matrix.
#define LOAD1(form, place, a) \
    asm volatile("ldmatrix.sync.aligned.m8n8.x1" form ".shared.b16 {%0}, [%1];" : "=r"(a) : "r"(base_of_shared + (place)))
#define LOAD2(form, place, a, b) \
    asm volatile("ldmatrix.sync.aligned.m8n8.x2" form ".shared.b16 {%0, %1}, [%2];" \
                 : "=r"(a), "=r"(b) : "r"(base_of_shared + (place)))
#define LOAD4(form, place, a, b, c, d) \
    asm volatile("ldmatrix.sync.aligned.m8n8.x4" form ".shared.b16 {%0, %1, %2, %3}, [%4];" \
                 : "=r"(a), "=r"(b), "=r"(c), "=r"(d) : "r"(base_of_shared + (place)))
#define STRAIGHT ""
#define TRANSPOSED ".trans"

DEVICE void multiply_bf16(float* c, const u32* a, u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
DEVICE void multiply_tf32(float* c, const u32* a, u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// Two numbers as bfloat16, the first one low.
DEVICE u32 rounded_pair(float a, float b) {
    u32 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(b), "f"(a));
    return pair;
}
DEVICE u32 rounded_tf32(float a) {
    u32 bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(a));
    return bits;
}
DEVICE float rough_tanh(float z) {
    float a;
    asm("tanh.approx.f32 %0, %1;" : "=f"(a) : "f"(z));
    return a;
}
// The larger one; NaN if either is.
DEVICE float greater(float a, float b) {
    float c;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
    return c;
}
DEVICE u32 bytes_of(u32 word, u32 selector) { return __byte_perm(word, 0u, selector); }
DEVICE float divided(float a, float b) { return __fdividef(a, b); }
DEVICE float root(float a) {
    float b;
    asm("sqrt.approx.f32 %0, %1;" : "=f"(b) : "f"(a));
    return b;
}
