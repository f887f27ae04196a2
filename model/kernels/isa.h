#pragma once

#include "model/kernels/kernels.h"
#include "model/kernels/simd.h"

namespace ferro::kernels::FERRO_KERNEL_ISA {

// Each source of this instruction set enters its functions into the table.
void add_gemm(Kernels& table);
void add_attention_forward(Kernels& table);
void add_attention_backward(Kernels& table);
void add_rows(Kernels& table);
void add_blocks(Kernels& table);
void add_softmax(Kernels& table);

// One row of each, for kernels that work on chunks of rows: defined once, so that the bits are the same.
/// Returns 1 / rms.
float rms_norm_row(const float* x, const float* weight, float eps, std::int64_t n, float* y);
/// y may be gate or up.
void swiglu_row(const float* gate, const float* up, std::int64_t n, float* y);

}  // namespace ferro::kernels::FERRO_KERNEL_ISA
