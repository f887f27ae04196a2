#pragma once

#include <cstdint>

namespace ferro::kernels {

/// Memory of the calling thread, 64-byte aligned, for the length of one kernel call: it grows and is kept.
/// Contents are undefined. std::bad_alloc when there is none. One block per thread: a second call takes the
/// first one's.
float* workspace(std::int64_t floats);

}  // namespace ferro::kernels
