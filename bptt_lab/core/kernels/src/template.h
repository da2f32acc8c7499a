/* Everything for one (element type, instruction set) pair. The including file defines ISA_NAME,
 * VECTOR_ISA and REAL, REAL_NAME, REAL_BITS. The order matters. */
#include "vec.h"

#include "nonlinearity.h"

#include "product.h"

#include "split.h"

#include "unroll.h"

#include "sweep_layout.h"

#include "sweep.h"

const bptt_kernel BPTT_JOIN(bptt, ISA_NAME, REAL_NAME) = {
    BPTT_STRING(ISA_NAME),
    {NAME(unroll_plan), NAME(unroll_pack), NAME(unroll_part), NULL},
    {NAME(sweep_plan), NAME(sweep_pack), NAME(sweep_part), NAME(sweep_finish)},
};
