/* The kernels of one of x86's instruction sets, TARGET, whatever the file itself is compiled for. */
#if defined(__x86_64__) || defined(__i386__)

#include "kernel.h"

#define PRAGMA_(text) _Pragma(#text)
#define PRAGMA(text) PRAGMA_(text)

#if defined(__clang__)
#include <immintrin.h>
PRAGMA(clang attribute push(__attribute__((target(TARGET))), apply_to = function))
#else
PRAGMA(GCC target(TARGET))
#include <immintrin.h>
#endif

#include "both_types.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
