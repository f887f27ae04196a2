#pragma once

namespace ferro {

/// Lets the process keep freed memory for its next allocations instead of giving it back to the system, and
/// asks for huge pages where LibTorch allocates: a step allocates the same large buffers as the one before,
/// and fresh pages cost more than what is written into them. For programs that train or generate; called
/// once, before the first tensor.
void keep_freed_memory();

}  // namespace ferro
