// Batch normalisation, what goes around it, and ReLU, as one operation on a CPU: forward and backward, in training.
//
//     forward    mean and deviation of each channel; y = max(weight (x - mean) / deviation + bias [+ around], 0)
//     backward   g = dy where y > 0; the sums of g and of g (x - mean); dx, and g as the gradient of what goes around
//
// Notable
// - It waits for memory, not for arithmetic. torch goes over the numbers thirteen times for the three operations; here it
//   is eight, or nine where something goes around. Without that, where ReLU is open follows from x, and y is not kept.
// - The numbers lie as [rows][channels] (channels-last). What is the same for a channel is repeated until it fills
//   whole registers, and so all loops run over registers, however many channels there are.
// - Mean and squared deviations are taken chunk by chunk, from the mean of the chunk's first rows, and put together in
//   double precision (Chan, Golub & LeVeque 1983): no difference of large sums, no sum of a million floats.
// - Work is cut in one way, whatever the number of threads: the same call gives the same bits on any number of them.
// - Sixteen numbers are computed with at once, in vectors that the compiler turns into the registers that there are. One
//   instruction is asked for by name, where there is one that rounds to bf16.
// - The threads are those of torch (threads.h).
//
// Sources: Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167, section 3, for the gradient; Chan, Golub & LeVeque
// 1983, https://doi.org/10.1080/00031305.1983.10483115.
//
// What it does not do: checks of its arguments (Python does), running statistics, evaluation.
//
// Shapes: R rows (pictures x height x width) · C channels · L numbers, a multiple of C and 16, after which channels repeat

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <numeric>
#include <vector>

#include "threads.h"

namespace {

typedef uint16_t Half;  // bf16
constexpr int64_t LANES = 16, CHUNK = 16384, PERIOD = 512;

// The same names in batch_norm.py, in the same order.
struct Call {
    int64_t rows, channels, threads, halves;  // halves: bf16, else fp32
    double epsilon;
    const void *x, *around;                   // [R, C]; around may be null, and only its being there counts backward
    void* y;
    const float *weight, *bias;               // [C], of this and all below
    float *mean, *scale, *variance;           // scale: 1 / deviation; variance: biased, for running statistics
    const void* d_y;
    void *d_x, *d_around;
    float *d_weight, *d_bias;
};

// Numbers as they are computed with: sixteen at once, or the last ones one by one.
typedef float Many __attribute__((vector_size(64)));
typedef uint32_t Bits __attribute__((vector_size(64)));
typedef Half Halves __attribute__((vector_size(32)));

template <class V> inline V get(const float* from) {
    V made;
    std::memcpy(&made, from, sizeof made);
    return made;
}
template <class V> inline V get(const Half* from) {
    if constexpr (sizeof(V) == sizeof(float)) {
        const uint32_t bits = static_cast<uint32_t>(*from) << 16;
        return get<V>(reinterpret_cast<const float*>(&bits));
    } else {
        Halves halves;
        std::memcpy(&halves, from, sizeof halves);
        const Bits bits = __builtin_convertvector(halves, Bits) << 16;
        return reinterpret_cast<V>(bits);
    }
}
template <class V> inline void put(float* to, V value) { std::memcpy(to, &value, sizeof value); }
template <class V> inline void put(Half* to, V value) {  // to the nearest, ties to even; what is no number stays none
    if constexpr (sizeof(V) == sizeof(float)) {
        uint32_t bits;
        std::memcpy(&bits, &value, 4);
        *to = static_cast<Half>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    } else {
#ifdef __AVX512BF16__
        const __m256bh halves = _mm512_cvtneps_pbh(reinterpret_cast<__m512>(value));
#else
        const Bits bits = reinterpret_cast<Bits>(value);
        const Halves halves = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, Halves);
#endif
        std::memcpy(to, &halves, sizeof halves);
    }
}
template <class V> inline V open(V value, V told) { return told <= 0 ? V{} : value; }  // where ReLU is; none stays none

// How the numbers are cut.
struct Cut {
    int64_t channels, period, chunk, all, count;

    explicit Cut(const Call& call) : channels(call.channels), period(std::lcm(call.channels, LANES)) {
        period *= (PERIOD + period - 1) / period;  // a sum is then old enough to be read again
        chunk = std::max<int64_t>(1, CHUNK / period) * period;
        all = call.rows * channels;
        count = (all + chunk - 1) / chunk;
    }
    int64_t first(int64_t which) const { return which * chunk; }
    int64_t length(int64_t which) const { return std::min(chunk, all - first(which)); }

    // body(place in the chunk, place in the period, a number of the kind to compute with) for all numbers of a chunk.
    template <class Body> void over(int64_t length, const Body& body) const {
        for (int64_t done = 0; done < length; done += period) {
            const int64_t end = std::min(period, length - done);
            int64_t i = 0;
            for (; i + LANES <= end; i += LANES) body(done + i, i, Many{});
            for (; i < end; i++) body(done + i, i, float{});
        }
    }
    std::vector<float> repeated(const float* of_C) const {
        std::vector<float> made(period);
        for (int64_t row = 0; row < period; row += channels) std::copy(of_C, of_C + channels, &made[row]);
        return made;
    }
    void folded(const std::vector<float>& of_L, float* to_C) const {
        std::fill(to_C, to_C + channels, 0.0f);
        for (int64_t row = 0; row < period; row += channels)
            for (int64_t c = 0; c < channels; c++) to_C[c] += of_L[row + c];
    }
};

template <class T> void forward(const Call& call) {
    const Cut cut(call);
    const int64_t C = call.channels;
    const T* x_all = static_cast<const T*>(call.x);
    std::vector<float> parts(cut.count * 2 * C);
    run(cut.count, call.threads, [&](int64_t which, long) {
        const T* x = x_all + cut.first(which);
        const int64_t length = cut.length(which), rows = length / C, few = std::min(rows, cut.period / C);
        float *mean = &parts[which * 2 * C], *squares = mean + C;
        std::fill(mean, mean + C, 0.0f);
        for (int64_t row = 0; row < few; row++)
            for (int64_t c = 0; c < C; c++) mean[c] += get<float>(&x[row * C + c]) / static_cast<float>(few);
        const std::vector<float> near = cut.repeated(mean);
        std::vector<float> plain(cut.period, 0.0f), squared(cut.period, 0.0f);
        const float* middle = near.data();
        float *sum = plain.data(), *square = squared.data();
        cut.over(length, [=](int64_t at, int64_t i, auto kind) {
            typedef decltype(kind) V;
            const V away = get<V>(&x[at]) - get<V>(&middle[i]);
            put(&sum[i], get<V>(&sum[i]) + away);
            put(&square[i], get<V>(&square[i]) + away * away);
        });
        std::vector<float> sums(C);
        cut.folded(plain, sums.data());
        cut.folded(squared, squares);
        for (int64_t c = 0; c < C; c++) {
            mean[c] += sums[c] / static_cast<float>(rows);
            squares[c] = std::max(0.0f, squares[c] - sums[c] * sums[c] / static_cast<float>(rows));
        }
    });
    std::vector<float> slope(C), lift(C);
    for (int64_t c = 0; c < C; c++) {
        double mean = 0, squares = 0;
        for (int64_t k = 0; k < cut.count; k++) mean += static_cast<double>(cut.length(k) / C) * parts[k * 2 * C + c];
        mean /= static_cast<double>(call.rows);
        for (int64_t k = 0; k < cut.count; k++) {
            const double away = parts[k * 2 * C + c] - mean;
            squares += parts[(k * 2 + 1) * C + c] + static_cast<double>(cut.length(k) / C) * away * away;
        }
        const double variance = squares / static_cast<double>(call.rows), scale = 1 / std::sqrt(variance + call.epsilon);
        call.mean[c] = static_cast<float>(mean);
        call.variance[c] = static_cast<float>(variance);
        call.scale[c] = static_cast<float>(scale);
        slope[c] = call.weight[c] * call.scale[c];
        lift[c] = call.bias[c] - slope[c] * call.mean[c];
    }
    const std::vector<float> slopes = cut.repeated(slope.data()), lifts = cut.repeated(lift.data());
    run(cut.count, call.threads, [&](int64_t which, long) {
        const T* x = x_all + cut.first(which);
        T* y = static_cast<T*>(call.y) + cut.first(which);
        const float *a = slopes.data(), *b = lifts.data();
        if (call.around) {
            const T* around = static_cast<const T*>(call.around) + cut.first(which);
            cut.over(cut.length(which), [=](int64_t at, int64_t i, auto kind) {
                typedef decltype(kind) V;
                const V value = get<V>(&a[i]) * get<V>(&x[at]) + get<V>(&b[i]) + get<V>(&around[at]);
                put(&y[at], open(value, value));
            });
        } else {
            cut.over(cut.length(which), [=](int64_t at, int64_t i, auto kind) {
                typedef decltype(kind) V;
                const V value = get<V>(&a[i]) * get<V>(&x[at]) + get<V>(&b[i]);
                put(&y[at], open(value, value));
            });
        }
    });
}

template <class T> void backward(const Call& call) {
    const Cut cut(call);
    const int64_t C = call.channels;
    std::vector<float> slope(C), lift(C), parts(cut.count * 2 * C);
    for (int64_t c = 0; c < C; c++) {
        slope[c] = call.weight[c] * call.scale[c];
        lift[c] = call.bias[c] - slope[c] * call.mean[c];
    }
    const std::vector<float> slopes = cut.repeated(slope.data()), lifts = cut.repeated(lift.data()), means = cut.repeated(call.mean);
    const float *a = slopes.data(), *b = lifts.data(), *middle = means.data();
    run(cut.count, call.threads, [&](int64_t which, long) {
        const int64_t first = cut.first(which), length = cut.length(which);
        const T *x = static_cast<const T*>(call.x) + first, *d_y = static_cast<const T*>(call.d_y) + first;
        std::vector<float> plain(cut.period, 0.0f), crossed(cut.period, 0.0f);
        float *sum = plain.data(), *cross = crossed.data();
        if (call.around) {
            const T* y = static_cast<const T*>(call.y) + first;
            T* d_around = static_cast<T*>(call.d_around) + first;
            cut.over(length, [=](int64_t at, int64_t i, auto kind) {
                typedef decltype(kind) V;
                const V g = open(get<V>(&d_y[at]), get<V>(&y[at]));
                put(&d_around[at], g);
                put(&sum[i], get<V>(&sum[i]) + g);
                put(&cross[i], get<V>(&cross[i]) + g * (get<V>(&x[at]) - get<V>(&middle[i])));
            });
        } else {
            cut.over(length, [=](int64_t at, int64_t i, auto kind) {
                typedef decltype(kind) V;
                const V value = get<V>(&x[at]);
                const V g = open(get<V>(&d_y[at]), get<V>(&a[i]) * value + get<V>(&b[i]));
                put(&sum[i], get<V>(&sum[i]) + g);
                put(&cross[i], get<V>(&cross[i]) + g * (value - get<V>(&middle[i])));
            });
        }
        cut.folded(plain, &parts[which * 2 * C]);
        cut.folded(crossed, &parts[(which * 2 + 1) * C]);
    });
    std::vector<float> of_x(C), constant(C);
    for (int64_t c = 0; c < C; c++) {
        double sum = 0, cross = 0;
        for (int64_t k = 0; k < cut.count; k++) {
            sum += parts[k * 2 * C + c];
            cross += parts[(k * 2 + 1) * C + c];
        }
        const double scale = call.scale[c], rows = static_cast<double>(call.rows);
        call.d_bias[c] = static_cast<float>(sum);
        call.d_weight[c] = static_cast<float>(cross * scale);
        const double steep = -slope[c] * scale * scale * cross / rows;
        of_x[c] = static_cast<float>(steep);
        constant[c] = static_cast<float>(-slope[c] * sum / rows - steep * call.mean[c]);
    }
    const std::vector<float> steeps = cut.repeated(of_x.data()), constants = cut.repeated(constant.data());
    const float *s = steeps.data(), *k = constants.data();
    run(cut.count, call.threads, [&](int64_t which, long) {
        const int64_t first = cut.first(which), length = cut.length(which);
        const T* x = static_cast<const T*>(call.x) + first;
        T* d_x = static_cast<T*>(call.d_x) + first;
        if (call.around) {
            const T* d_around = static_cast<const T*>(call.d_around) + first;
            cut.over(length, [=](int64_t at, int64_t i, auto kind) {
                typedef decltype(kind) V;
                const V g = get<V>(&d_around[at]), value = get<V>(&x[at]);
                put(&d_x[at], get<V>(&a[i]) * g + (get<V>(&s[i]) * value + get<V>(&k[i])));
            });
        } else {
            const T* d_y = static_cast<const T*>(call.d_y) + first;
            cut.over(length, [=](int64_t at, int64_t i, auto kind) {
                typedef decltype(kind) V;
                const V value = get<V>(&x[at]);
                const V g = open(get<V>(&d_y[at]), get<V>(&a[i]) * value + get<V>(&b[i]));
                put(&d_x[at], get<V>(&a[i]) * g + (get<V>(&s[i]) * value + get<V>(&k[i])));
            });
        }
    });
}

template <class Work> int32_t guarded(const Work& work) {
    try {
        work();
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

}  // namespace

extern "C" int32_t sw2_norm_forward(const Call* call) {
    return guarded([&] { call->halves ? forward<Half>(*call) : forward<float>(*call); });
}

extern "C" int32_t sw2_norm_backward(const Call* call) {
    return guarded([&] { call->halves ? backward<Half>(*call) : backward<float>(*call); });
}
