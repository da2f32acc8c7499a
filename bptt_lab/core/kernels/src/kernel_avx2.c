/* AVX2 with FMA: 32-byte vectors, 16 registers. */
#define ISA_NAME avx2
#define VECTOR_ISA 256
#define TARGET "avx2,fma"

#include "x86.h"
