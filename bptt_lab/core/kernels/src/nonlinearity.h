/* phi on a vector, and phi' from phi's value.
 *
 * tanh and sigmoid share one core, e^{2x} = 2^n (1 + q): n = round(2x / ln 2), r = x - n ln2 / 2,
 * q = e^{2r} - 1 = r P(r), where P interpolates (e^{2r} - 1) / r at Chebyshev points, degree 5
 * (float, relative error 2.6e-8) or 11 (double, 6e-19). With E = e^{2x} - 1 = 2^n q + (2^n - 1),
 *
 *     tanh x = E / (E + 2),        sigmoid x = 1 / (e^{-x} + 1),
 *
 * which keeps tanh accurate relative to itself down to the smallest x, where E ~ 2x, with no second
 * branch. Beyond the clamp tanh rounds to +-1; below -86 (float) or -708 (double) sigmoid stays at
 * its value there, 4e-38 or 3e-308. NaN goes through: its 2^n is garbage, its q is NaN.
 *
 * ln2 / 2 as one number gives r an error of half an ulp of x, which tanh (slope at most y / x) does
 * not notice; sigmoid, small where x is large, needs it in two.
 */

#define OF(of_float, of_double) (REAL)(REAL_BITS == 32 ? (of_float) : (of_double))
/* 1.5 * 2^23 or 2^52: adding it rounds to an integer, held in the low bits. */
#define EXP_MAGIC OF(12582912.0f, 6755399441055744.0)
#define EXP_SHIFT (REAL_BITS == 32 ? 23 : 52)
#define TWO_LOG2E OF(2.88539008177792681472f, 2.88539008177792681472)
#define HALF_LN2 OF(0.34657359027997265471f, 0.34657359027997265471)
/* 15 or 33 bits, so that n times it is exact; and the rest. */
#define HALF_LN2_HIGH OF(0.3465728759765625f, 3.46573590184561908245e-01)
#define HALF_LN2_LOW OF(7.1430341015470861612e-7f, 9.54107464635293850010e-11)
#define TANH_CLAMP OF(9.25f, 19.25)
#define SIGMOID_CLAMP OF(86.0f, 708.0)

/* n + EXP_MAGIC for e^{2x}. */
INLINE VR NAME(exp_round)(VR x) { return VFMA(x, VSET(TWO_LOG2E), VSET(EXP_MAGIC)); }

/* e^{2x} - less = 2^n r P(r) + (2^n - less), given n + EXP_MAGIC and r. */
INLINE VR NAME(exp_less)(VR magic_n, VR r, VR less) {
    const VR power = (VR)(((VU)magic_n << EXP_SHIFT) + (VU)VSET(1));
#if REAL_BITS == 32
    VR p = VSET(64 * 0x1.6d1605bc8521fp-10f);
    p = VFMA(p, r, VSET(32 * 0x1.12106ba17fc04p-7f));
    p = VFMA(p, r, VSET(16 * 0x1.555516c1f2f08p-5f));
    p = VFMA(p, r, VSET(8 * 0x1.5554d820ee8e6p-3f));
#else
    VR p = VSET(4096 * 0x1.1f75aba0b1e2ep-29);
    p = VFMA(p, r, VSET(2048 * 0x1.af52906239de4p-26));
    p = VFMA(p, r, VSET(1024 * 0x1.27e4da1a3bf04p-22));
    p = VFMA(p, r, VSET(512 * 0x1.71ddffef9e7b1p-19));
    p = VFMA(p, r, VSET(256 * 0x1.a01a01a741b3cp-16));
    p = VFMA(p, r, VSET(128 * 0x1.a01a01aca0134p-13));
    p = VFMA(p, r, VSET(64 * 0x1.6c16c16c16212p-10));
    p = VFMA(p, r, VSET(32 * 0x1.111111110ff87p-7));
    p = VFMA(p, r, VSET(16 * 0x1.5555555555556p-5));
    p = VFMA(p, r, VSET(8 * 0x1.5555555555557p-3));
#endif
    p = VFMA(p, r, VSET(2));
    p = VFMA(p, r, VSET(2));
    return VFMA(power, p * r, power - less);
}

INLINE VR NAME(vtanh)(VR x) {
    x = VMAX(VSET(-TANH_CLAMP), VMIN(VSET(TANH_CLAMP), x));
    const VR t = NAME(exp_round)(x), n = t - VSET(EXP_MAGIC);
    const VR e = NAME(exp_less)(t, VFMA(n, VSET(-HALF_LN2), x), VSET(1));
    return VDIV(e, e + VSET(2));
}

INLINE VR NAME(vsigmoid)(VR x) {
    x = VMAX(VSET(-SIGMOID_CLAMP), VMIN(VSET(SIGMOID_CLAMP), x));
    x = x * VSET((REAL)-0.5);
    const VR t = NAME(exp_round)(x), n = t - VSET(EXP_MAGIC);
    const VR r = VFMA(n, VSET(-HALF_LN2_LOW), VFMA(n, VSET(-HALF_LN2_HIGH), x));
    return VDIV(VSET(1), NAME(exp_less)(t, r, VSET(-1)));
}

/* phi is a constant wherever these two are inlined. */
INLINE VR NAME(phi_value)(const int phi, VR a) {
    switch (phi) {
    case BPTT_TANH: return NAME(vtanh)(a);
    case BPTT_RELU: return VMAX(VSET(0), a);
    case BPTT_SIGMOID: return NAME(vsigmoid)(a);
    default: return a;
    }
}

INLINE VR NAME(phi_slope)(const int phi, VR y) {
    switch (phi) {
    case BPTT_TANH: return VFMA(-y, y, VSET(1));
    case BPTT_RELU: return VPOSITIVE(y, VSET(1));
    case BPTT_SIGMOID: return y * (VSET(1) - y);
    default: return VSET(1);
    }
}
