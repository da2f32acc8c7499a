/* The kernels of one instruction set, for either type of number. */
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
