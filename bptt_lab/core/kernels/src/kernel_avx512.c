/* AVX-512: 64-byte vectors, 32 registers. */
#define ISA_NAME avx512
#define VECTOR_ISA 512
#define TARGET "avx512f,avx512dq,avx512vl,avx2,fma"

#include "x86.h"
