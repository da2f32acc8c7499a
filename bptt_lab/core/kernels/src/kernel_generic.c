/* Any machine: 16-byte vectors as the compiler maps them (SSE2, NEON, plain code). */
#include "kernel.h"

#if defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

#define ISA_NAME generic
#define VECTOR_ISA 128

#include "both_types.h"
