#include <algorithm>
#include <iostream>
#include <string>
#include <thread>

#include <cuda_runtime_api.h>
#include <catch2/catch.hpp>

#include "core/error.h"
#include "model/dist/nccl_communicator.h"
#include "tests/model/communicator_conformance.h"

namespace ferro {
namespace {

TEST_CASE("NCCL communicators, one per GPU, keep the contract") {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::cout << "FERRO_SKIPPED: a CUDA device is absent\n";
    return;
  }
  const int world_size = std::min(devices, 4);
  const NcclGroupId id = make_nccl_group_id();
  std::vector<std::vector<std::string>> failures(static_cast<std::size_t>(world_size));
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < world_size; ++rank)
      threads.emplace_back([&, rank] {
        auto& own = failures[static_cast<std::size_t>(rank)];
        try {
          const auto communicator = make_nccl_communicator(id, rank, world_size, {.device = rank});
          const at::Device device(at::kCUDA, static_cast<at::DeviceIndex>(rank));
          own = testing::check_communicator(*communicator, device, false);
        } catch (const std::exception& error) {
          own.push_back(error.what());
        }
      });
  }
  for (const auto& own : failures) CHECK(own == std::vector<std::string>{});
}

}  // namespace
}  // namespace ferro
