#include "core/process_memory.h"

#include <malloc.h>

#include <cstdlib>
#include <limits>

namespace ferro {

void keep_freed_memory() {
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  mallopt(M_TOP_PAD, 64 << 20);
  setenv("THP_MEM_ALLOC_ENABLE", "1", 0);  // LibTorch's own switch, read at its first large allocation.
}

}  // namespace ferro
