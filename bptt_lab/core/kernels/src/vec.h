/* A vector of REAL for the instruction set that the including file was set up for.
 *
 * Arithmetic uses the compilers' vector operators; this file adds what those lack: fused
 * multiply-add, min and max with a defined answer for NaN, partial loads and stores, a quotient.
 * Included once for each (instruction set, REAL) pair, so it has no guard.
 *
 * VMIN(bound, x) and VMAX(bound, x) return x if x is NaN: that is what the x86 instructions do with
 * their second operand.
 */
#include "names.h"

#define VR NAME(vr)
#define VU NAME(vu)
#define VSET NAME(vset)
#define VLOAD NAME(vload)
#define VSTORE NAME(vstore)
#define VLOAD_N NAME(vload_n)
#define VSTORE_N NAME(vstore_n)
#define VFMA NAME(vfma)
#define VMIN NAME(vmin)
#define VMAX NAME(vmax)
#define VDIV NAME(vdiv)
#define VPOSITIVE NAME(vpositive)

typedef REAL VR __attribute__((vector_size(VECTOR_BYTES)));
#if REAL_BITS == 32
typedef unsigned int VU __attribute__((vector_size(VECTOR_BYTES)));
#else
typedef unsigned long long VU __attribute__((vector_size(VECTOR_BYTES)));
#endif

#define LANES (VECTOR_BYTES / (REAL_BITS / 8))

INLINE VR VLOAD(const REAL *p) {
    VR x;
    __builtin_memcpy(&x, p, sizeof x);
    return x;
}

INLINE void VSTORE(REAL *p, VR x) { __builtin_memcpy(p, &x, sizeof x); }

#if VECTOR_ISA == 512 && REAL_BITS == 32

INLINE VR VSET(REAL x) { return (VR)_mm512_set1_ps(x); }
INLINE VR VFMA(VR a, VR b, VR c) { return (VR)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
INLINE VR VMIN(VR bound, VR x) { return (VR)_mm512_min_ps((__m512)bound, (__m512)x); }
INLINE VR VMAX(VR bound, VR x) { return (VR)_mm512_max_ps((__m512)bound, (__m512)x); }
INLINE VR VLOAD_N(const REAL *p, long n) {
    return n >= LANES ? VLOAD(p) : (VR)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
INLINE void VSTORE_N(REAL *p, VR x, long n) {
    if (n >= LANES)
        VSTORE(p, x);
    else
        _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)x);
}
/* A 512-bit division holds its port for 16 cycles. A reciprocal good to 14 bits, and one correction
 * of the quotient by its residual, is good to 28 bits and takes 4. For 2^-126 < |b| < 2^126. */
INLINE VR VDIV(VR a, VR b) {
    const VR r = (VR)_mm512_rcp14_ps((__m512)b), y = a * r;
    return VFMA(VFMA(-b, y, a), r, y);
}
/* x where y > 0, else 0 */
INLINE VR VPOSITIVE(VR y, VR x) {
    const __mmask16 m = _mm512_cmp_ps_mask((__m512)y, _mm512_setzero_ps(), _CMP_GT_OQ);
    return (VR)_mm512_maskz_mov_ps(m, (__m512)x);
}

#elif VECTOR_ISA == 512

INLINE VR VSET(REAL x) { return (VR)_mm512_set1_pd(x); }
INLINE VR VFMA(VR a, VR b, VR c) {
    return (VR)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}
INLINE VR VMIN(VR bound, VR x) { return (VR)_mm512_min_pd((__m512d)bound, (__m512d)x); }
INLINE VR VMAX(VR bound, VR x) { return (VR)_mm512_max_pd((__m512d)bound, (__m512d)x); }
INLINE VR VLOAD_N(const REAL *p, long n) {
    return n >= LANES ? VLOAD(p) : (VR)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
}
INLINE void VSTORE_N(REAL *p, VR x, long n) {
    if (n >= LANES)
        VSTORE(p, x);
    else
        _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), (__m512d)x);
}
INLINE VR VDIV(VR a, VR b) { return a / b; }
INLINE VR VPOSITIVE(VR y, VR x) {
    const __mmask8 m = _mm512_cmp_pd_mask((__m512d)y, _mm512_setzero_pd(), _CMP_GT_OQ);
    return (VR)_mm512_maskz_mov_pd(m, (__m512d)x);
}

#elif VECTOR_ISA == 256 && REAL_BITS == 32

INLINE VR VSET(REAL x) { return (VR)_mm256_set1_ps(x); }
INLINE VR VFMA(VR a, VR b, VR c) { return (VR)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
INLINE VR VMIN(VR bound, VR x) { return (VR)_mm256_min_ps((__m256)bound, (__m256)x); }
INLINE VR VMAX(VR bound, VR x) { return (VR)_mm256_max_ps((__m256)bound, (__m256)x); }
INLINE __m256i NAME(lane_mask)(long n) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lanes);
}
INLINE VR VLOAD_N(const REAL *p, long n) {
    return n >= LANES ? VLOAD(p) : (VR)_mm256_maskload_ps(p, NAME(lane_mask)(n));
}
INLINE void VSTORE_N(REAL *p, VR x, long n) {
    if (n >= LANES)
        VSTORE(p, x);
    else
        _mm256_maskstore_ps(p, NAME(lane_mask)(n), (__m256)x);
}
INLINE VR VDIV(VR a, VR b) { return a / b; }
INLINE VR VPOSITIVE(VR y, VR x) {
    return (VR)_mm256_and_ps(_mm256_cmp_ps((__m256)y, _mm256_setzero_ps(), _CMP_GT_OQ), (__m256)x);
}

#elif VECTOR_ISA == 256

INLINE VR VSET(REAL x) { return (VR)_mm256_set1_pd(x); }
INLINE VR VFMA(VR a, VR b, VR c) {
    return (VR)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
INLINE VR VMIN(VR bound, VR x) { return (VR)_mm256_min_pd((__m256d)bound, (__m256d)x); }
INLINE VR VMAX(VR bound, VR x) { return (VR)_mm256_max_pd((__m256d)bound, (__m256d)x); }
INLINE __m256i NAME(lane_mask)(long n) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
INLINE VR VLOAD_N(const REAL *p, long n) {
    return n >= LANES ? VLOAD(p) : (VR)_mm256_maskload_pd(p, NAME(lane_mask)(n));
}
INLINE void VSTORE_N(REAL *p, VR x, long n) {
    if (n >= LANES)
        VSTORE(p, x);
    else
        _mm256_maskstore_pd(p, NAME(lane_mask)(n), (__m256d)x);
}
INLINE VR VDIV(VR a, VR b) { return a / b; }
INLINE VR VPOSITIVE(VR y, VR x) {
    const __m256d m = _mm256_cmp_pd((__m256d)y, _mm256_setzero_pd(), _CMP_GT_OQ);
    return (VR)_mm256_and_pd(m, (__m256d)x);
}

#else /* any machine whose compiler knows vector_size: 16 bytes */

INLINE VR VSET(REAL x) {
    VR y = {0};
    for (int i = 0; i < LANES; i++) y[i] = x;
    return y;
}
#if defined(__ARM_NEON) && defined(__aarch64__)
#if REAL_BITS == 32
INLINE VR VFMA(VR a, VR b, VR c) {
    return (VR)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
#else
INLINE VR VFMA(VR a, VR b, VR c) {
    return (VR)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
#endif
#else
INLINE VR VFMA(VR a, VR b, VR c) { return a * b + c; }
#endif
INLINE VR NAME(choose)(VU mask, VR yes, VR no) { return (VR)((mask & (VU)yes) | (~mask & (VU)no)); }
INLINE VR VMIN(VR bound, VR x) { return NAME(choose)((VU)(bound < x), bound, x); }
INLINE VR VMAX(VR bound, VR x) { return NAME(choose)((VU)(bound > x), bound, x); }
INLINE VR VLOAD_N(const REAL *p, long n) {
    VR x = VSET(0);
    for (int i = 0; i < LANES && i < n; i++) x[i] = p[i];
    return x;
}
INLINE void VSTORE_N(REAL *p, VR x, long n) {
    for (int i = 0; i < LANES && i < n; i++) p[i] = x[i];
}
INLINE VR VDIV(VR a, VR b) { return a / b; }
INLINE VR VPOSITIVE(VR y, VR x) { return (VR)((VU)(y > VSET(0)) & (VU)x); }

#endif
