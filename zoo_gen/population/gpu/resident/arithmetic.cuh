// What is computed of single numbers: activations, dropout, rounding. The same text runs on a CPU in the tests.
// PRECISION: 0 bfloat16, 1 tf32, 2 float32 (three products of tf32).

DEVICE u32 bits_of(float x) { return reinterpret_bits<u32>(x); }
DEVICE float float_of(u32 x) { return reinterpret_bits<float>(x); }

// A word is what one thread stores of a value: it for two images. A row is a value of eight images.
#if PRECISION == 0
struct Word { u32 x; };
DEVICE Word packed(float a, float b) { return {rounded_pair(a, b)}; }
DEVICE float first_of(Word w) { return float_of(w.x << 16); }
DEVICE float second_of(Word w) { return float_of(w.x & 0xffff0000u); }
// Which element of a window won, for both images, as a selector of bytes; where it is `place` the value stays.
struct Winners { u32 x; };
DEVICE Winners winners_of(int packed) { return {(u32)(((packed & 15) | (packed & 0xf0) << 4) * 0x11)}; }
DEVICE Word kept_where(Word w, Winners won, int place) { return {w.x & bytes_of(0xffu << (8 * place), won.x)}; }
DEVICE void store_element(int place, int image, float x) {
    at<unsigned short>(place + 2 * image) = (unsigned short)rounded_pair(x, 0.0f);
}
struct Operand { u32 x; };  // what a lane holds of an octet
struct Fragment { u32 x, y, z, w; };
DEVICE Fragment fragment_at(int place) { return at<Fragment>(place); }
DEVICE void multiply(float* c, const Fragment& a, Operand b0, Operand b1) { multiply_bf16(c, &a.x, b0.x, b1.x); }
DEVICE void store_weight(int place, float w) { at<unsigned short>(place) = (unsigned short)rounded_pair(w, 0.0f); }
#else
struct Word { float x, y; };
struct Operand { u32 x, y; };
struct Raw { u32 x, y, z, w; };
#if PRECISION == 1
DEVICE Word packed(float a, float b) { return {float_of(rounded_tf32(a)), float_of(rounded_tf32(b))}; }
typedef Raw Fragment;
DEVICE Fragment fragment_at(int place) { return at<Raw>(place); }
DEVICE void multiply(float* c, const Fragment& a, Operand b) { multiply_tf32(c, &a.x, b.x, b.y); }
DEVICE void store_weight(int place, float w) { at<u32>(place) = rounded_tf32(w); }
DEVICE void store_element(int place, int image, float x) { at<u32>(place + 4 * image) = rounded_tf32(x); }
#else
DEVICE Word packed(float a, float b) { return {a, b}; }
struct Fragment { Raw high, low; };
DEVICE void split(u32 x, u32& high, u32& low) {
    high = rounded_tf32(float_of(x));
    low = bits_of(float_of(x) - float_of(high));
}
DEVICE Fragment split(const Raw& a) {
    Fragment f;
    split(a.x, f.high.x, f.low.x);
    split(a.y, f.high.y, f.low.y);
    split(a.z, f.high.z, f.low.z);
    split(a.w, f.high.w, f.low.w);
    return f;
}
DEVICE Fragment fragment_at(int place) { return split(at<Raw>(place)); }
DEVICE void multiply(float* c, const Fragment& a, Operand b) {
    u32 hx, hy, lx, ly;
    split(b.x, hx, lx);
    split(b.y, hy, ly);
    multiply_tf32(c, &a.low.x, hx, hy);
    multiply_tf32(c, &a.high.x, lx, ly);
    multiply_tf32(c, &a.high.x, hx, hy);
}
DEVICE void store_weight(int place, float w) { at<float>(place) = w; }
DEVICE void store_element(int place, int image, float x) { at<float>(place + 4 * image) = x; }
#endif
DEVICE float first_of(Word w) { return w.x; }
DEVICE float second_of(Word w) { return w.y; }
struct Winners { int x, y; };
DEVICE Winners winners_of(int packed) { return {packed & 15, packed >> 4}; }
DEVICE Word kept_where(Word w, Winners won, int place) {
    return {won.x == place ? w.x : 0.0f, won.y == place ? w.y : 0.0f};
}
#endif

// What matrices of the dataset's side are loaded as.
struct Left { u32 x, y, z, w; };
struct Right { u32 x, y; };
#if PRECISION == 2
DEVICE Fragment fragment_of(const Left& a) { return split(Raw{a.x, a.y, a.z, a.w}); }
#else
DEVICE Fragment fragment_of(const Left& a) { return {a.x, a.y, a.z, a.w}; }
#endif

// What a lane holds of a row as the right operand of a sum over images: two neighbours, or two that are four apart.
#if PRECISION == 0
DEVICE Operand operand_of(Word w) { return {w.x}; }
DEVICE Word word_for_sum(int place, int column) { return at<Word>(place + column * 4); }
DEVICE int winners_for_sum(int place, int column) { return at<unsigned char>(place + column); }
#else
DEVICE Operand operand_of(Word w) { return {bits_of(w.x), bits_of(w.y)}; }
DEVICE Word word_for_sum(int place, int column) {
    return {at<float>(place + column * 4), at<float>(place + 16 + column * 4)};
}
DEVICE int winners_for_sum(int place, int column) {
    const int shift = (column & 1) * 4, half = column >> 1;
    const int near = at<unsigned char>(place + half) >> shift, far = at<unsigned char>(place + half + 2) >> shift;
    return (near & 15) | (far & 15) << 4;
}
#endif

DEVICE void add(int place, float x, bool begins) { at<float>(place) = begins ? x : at<float>(place) + x; }
DEVICE float number_of_byte(u32 word, int i) { return float_of(0x4b000000u | ((word >> (8 * i)) & 255u)) - 8388608.0f; }

struct Settings { float rate, momentum, decay, penalty, correction1, correction2; int optimizer; };

// One step of an optimiser for one parameter, as `optimizers.py` has it in torch; `scale`: of its squared penalty.
DEVICE void update(const Settings& s, float scale, float g, float& w, float& mean, float& square) {
    g += scale * w;
    if (s.optimizer == 2) w *= 1.0f - s.rate * s.decay;
    else g += s.decay * w;
    if (s.optimizer == 0 || s.optimizer == 4) {
        mean = s.momentum * mean + g;
        w -= s.rate * (s.optimizer == 4 ? g + s.momentum * mean : mean);
    } else if (s.optimizer == 3) {
        square = SMOOTHING * square + (1.0f - SMOOTHING) * g * g;
        w -= s.rate * divided(g, root(square) + EPSILON);
    } else {
        mean += (1.0f - BETA1) * (g - mean);
        square = BETA2 * square + (1.0f - BETA2) * g * g;
        w -= divided(s.rate * s.correction1 * mean, root(square) * s.correction2 + EPSILON);
    }
}

DEVICE float sigmoid_of(float z) { return divided(1.0f, 1.0f + expf(-z)); }

DEVICE float tanh_of(float z) {
#if PRECISION == 0
    return rough_tanh(z);
#else
    const float shrunk = expf(-2.0f * fabsf(z)), square = z * z;
    const float large = divided(1.0f - shrunk, 1.0f + shrunk);
    // The quotient would lose the leading digits of a small result.
    const float series = -1.0f / 3 + square * (2.0f / 15 + square * (-17.0f / 315 + square * (62.0f / 2835)));
    const float small = fabsf(z) + fabsf(z) * (square * series);
    return copysignf(fabsf(z) < 0.25f ? small : large, z);
#endif
}

// An activation by its code; KINDS: a bit for each that occurs.
DEVICE float activated(float z, int code) {
    if ((KINDS & 2) && code == 1) return greater(z, 0.0f);
    if ((KINDS & 4) && code == 2) return z > 0 ? z : 0.01f * z;
    if ((KINDS & 8) && code == 3) return tanh_of(z);
    if ((KINDS & 16) && code == 4) return sigmoid_of(z);
    if ((KINDS & 32) && code == 5) return 0.5f * z * (1.0f + erff(z * 0.7071067811865476f));
    if ((KINDS & 64) && code == 6) return z * sigmoid_of(z);
    if ((KINDS & 128) && code == 7) return sinf(30.0f * z);
    return z;
}

// A gradient times the derivative of an activation at z, where it is a; z is read by those whose value does not tell.
DEVICE float sloped(float slope, float z, float a, int code) {
    if ((KINDS & 2) && code == 1) return a > 0 ? slope : 0.0f;
    if ((KINDS & 4) && code == 2) return a > 0 ? slope : 0.01f * slope;
    if ((KINDS & 8) && code == 3) return slope * (1.0f - a * a);
    if ((KINDS & 16) && code == 4) return slope * (a * (1.0f - a));
    if ((KINDS & 32) && code == 5) {
        const float normal = expf(-0.5f * z * z) * 0.3989422804014327f;
        return slope * (0.5f * (1.0f + erff(z * 0.7071067811865476f)) + z * normal);
    }
    if ((KINDS & 64) && code == 6) {
        const float s = sigmoid_of(z);
        return slope * (s * (1.0f + z * (1.0f - s)));
    }
    if ((KINDS & 128) && code == 7) return slope * (30.0f * cosf(30.0f * z));
    return slope;
}

// The key of dropout in a step: SplitMix64, as `random.dropout_keys` in torch.
DEVICE u64 step_key(u64 key, u64 step) {
    u64 z = key + step * GOLDEN;
    z = (z ^ (z >> 30)) * FIRST_MIX;
    z = (z ^ (z >> 27)) * SECOND_MIX;
    return z ^ (z >> 31);
}

struct Dropout { u32 low, high, threshold; float rate, inverse; };

// Whether the value at a place survives, see `random.kept_by_dropout`.
DEVICE bool survives(const Dropout& d, u32 place) {
    u32 word = (place >> 1) * WORD_STEP + d.low;
    word = (word ^ (word >> 16)) * FIRST_WORD_MIX;
    word = ((word ^ (word >> 15)) + d.high) * SECOND_WORD_MIX;
    word = word ^ (word >> 16);
    return ((word >> ((place & 1) * 16)) & 0xffffu) >= d.threshold;
}

// What is dropped becomes +0, and 0 that is kept -0: a stored value tells which it was.
DEVICE float dropped(const Dropout& d, float a, u32 place) {
    if (!survives(d, place)) return 0.0f;
    return a == 0.0f ? -0.0f : a * d.inverse;
}

// The gradient before activation and dropout from that behind them and the value a that they left.
DEVICE float undropped(const Dropout& d, float slope, float a) { return bits_of(a) == 0 ? 0.0f : slope * d.inverse; }
