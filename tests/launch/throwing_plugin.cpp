#include "core/error.h"

namespace {
void (*const kThrower)() = [] { throw ferro::Error(ferro::ErrorCode::kDivergence, "from the other side"); };
}

extern "C" const void* throwing_table();
extern "C" const void* throwing_table() {
  return &kThrower;
}
