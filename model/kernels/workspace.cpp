#include "model/kernels/workspace.h"

#include <memory>
#include <new>

namespace ferro::kernels {
namespace {

struct Free {
  void operator()(float* block) const { ::operator delete (block, std::align_val_t{64}); }
};
struct Block {
  std::unique_ptr<float, Free> data;
  std::int64_t size = 0;
};

}  // namespace

float* workspace(std::int64_t floats) {
  static thread_local Block block;
  if (floats > block.size) {
    block.data.reset();
    block.size = 0;
    block.data.reset(static_cast<float*>(
        ::operator new (static_cast<std::size_t>(floats) * sizeof(float), std::align_val_t{64})));
    block.size = floats;
  }
  return block.data.get();
}

}  // namespace ferro::kernels
