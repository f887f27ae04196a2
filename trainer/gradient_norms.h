#pragma once

#include <map>
#include <string>

#include "model/weights.h"

namespace ferro {

/// "grad_norm/vision" (patch embedding and blocks), "/merger", "/embedding", "/decoder", "/head": norms of
/// the gradients of those stages that have any. fp64 sums over blocks in order: the same bits at any thread
/// count.
std::map<std::string, double> gradient_norms_by_stage(const ParameterArena& arena);

}  // namespace ferro
