/* Any machine: 16-byte vectors as the compiler maps them (SSE2, NEON, plain code). */
#include "kernel.h"

#include <string.h>

#if defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

#define ISA_NAME generic
#define ISA_STRING "generic"
#define VECTOR_ISA 128
#define VECTOR_BYTES 16

#define REAL float
#define REAL_NAME f32
#define REAL_BITS 32
#include "template.h"
#undef REAL
#undef REAL_NAME
#undef REAL_BITS

#define REAL double
#define REAL_NAME f64
#define REAL_BITS 64
#include "template.h"
