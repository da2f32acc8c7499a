/* A vector of REAL for the instruction set that the including file was set up for.
 *
 * Arithmetic uses the compilers' vector operators; this file adds what those lack: fused
 * multiply-add, min and max with a defined answer for NaN, partial loads and stores, a quotient.
 * Included once for each (instruction set, REAL) pair, so it has no guard.
 *
 * VMIN(bound, x) and VMAX(bound, x) return x if x is NaN: that is what the x86 instructions do with
 * their second operand.
 */
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

typedef REAL VR __attribute__((vector_size(VECTOR_ISA / 8)));
#if REAL_BITS == 32
typedef unsigned int VU __attribute__((vector_size(VECTOR_ISA / 8)));
#else
typedef unsigned long long VU __attribute__((vector_size(VECTOR_ISA / 8)));
#endif

#define LANES (VECTOR_ISA / REAL_BITS)

INLINE VR VLOAD(const REAL *p) {
    VR x;
    __builtin_memcpy(&x, p, sizeof x);
    return x;
}

INLINE void VSTORE(REAL *p, VR x) { __builtin_memcpy(p, &x, sizeof x); }

/* MM(op) is the intrinsic of that name for VR, MR the type that it takes. */
#if VECTOR_ISA == 512 && REAL_BITS == 32
#define MM(op) _mm512_##op##_ps
#define MR __m512
#define MASK __mmask16
#define COMPARE _mm512_cmp_ps_mask
#elif VECTOR_ISA == 512
#define MM(op) _mm512_##op##_pd
#define MR __m512d
#define MASK __mmask8
#define COMPARE _mm512_cmp_pd_mask
#elif VECTOR_ISA == 256 && REAL_BITS == 32
#define MM(op) _mm256_##op##_ps
#define MR __m256
INLINE __m256i NAME(lane_mask)(long n) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lanes);
}
#elif VECTOR_ISA == 256
#define MM(op) _mm256_##op##_pd
#define MR __m256d
INLINE __m256i NAME(lane_mask)(long n) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
#endif

#if VECTOR_ISA >= 256

INLINE VR VSET(REAL x) { return (VR)MM(set1)(x); }
INLINE VR VFMA(VR a, VR b, VR c) { return (VR)MM(fmadd)((MR)a, (MR)b, (MR)c); }
INLINE VR VMIN(VR bound, VR x) { return (VR)MM(min)((MR)bound, (MR)x); }
INLINE VR VMAX(VR bound, VR x) { return (VR)MM(max)((MR)bound, (MR)x); }
#if VECTOR_ISA == 512
INLINE VR VLOAD_N(const REAL *p, long n) {
    return n >= LANES ? VLOAD(p) : (VR)MM(maskz_loadu)((MASK)((1u << n) - 1), p);
}
INLINE void VSTORE_N(REAL *p, VR x, long n) {
    if (n >= LANES)
        VSTORE(p, x);
    else
        MM(mask_storeu)(p, (MASK)((1u << n) - 1), (MR)x);
}
/* x where y > 0, else 0 */
INLINE VR VPOSITIVE(VR y, VR x) {
    return (VR)MM(maskz_mov)(COMPARE((MR)y, MM(setzero)(), _CMP_GT_OQ), (MR)x);
}
#else
INLINE VR VLOAD_N(const REAL *p, long n) {
    return n >= LANES ? VLOAD(p) : (VR)MM(maskload)(p, NAME(lane_mask)(n));
}
INLINE void VSTORE_N(REAL *p, VR x, long n) {
    if (n >= LANES)
        VSTORE(p, x);
    else
        MM(maskstore)(p, NAME(lane_mask)(n), (MR)x);
}
INLINE VR VPOSITIVE(VR y, VR x) {
    return (VR)MM(and)(MM(cmp)((MR)y, MM(setzero)(), _CMP_GT_OQ), (MR)x);
}
#endif

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
INLINE VR VPOSITIVE(VR y, VR x) { return (VR)((VU)(y > VSET(0)) & (VU)x); }

#endif

#if VECTOR_ISA == 512 && REAL_BITS == 32
/* A 512-bit division holds its port for 16 cycles. A reciprocal good to 14 bits, and one correction
 * of the quotient by its residual, is good to 28 bits and takes 4. For 2^-126 < |b| < 2^126. */
INLINE VR VDIV(VR a, VR b) {
    const VR r = (VR)_mm512_rcp14_ps((__m512)b), y = a * r;
    return VFMA(VFMA(-b, y, a), r, y);
}
#else
INLINE VR VDIV(VR a, VR b) { return a / b; }
#endif

#undef MM
#undef MR
#undef MASK
#undef COMPARE
