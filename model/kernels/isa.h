#pragma once

#include "model/kernels/kernels.h"
#include "model/kernels/simd.h"

namespace ferro::kernels::FERRO_KERNEL_ISA {

// Each source of this instruction set enters its functions into the table.
void add_gemm(Kernels& table);
void add_attention_forward(Kernels& table);
void add_attention_backward(Kernels& table);
void add_rows(Kernels& table);
void add_softmax(Kernels& table);

}  // namespace ferro::kernels::FERRO_KERNEL_ISA
