#include <malloc.h>

#include <fstream>
#include <functional>
#include <iostream>
#include <optional>
#include <string>

#include <catch2/catch.hpp>

#include "model/model_folder.h"
#include "model/random_checkpoint.h"
#include "tests/core/scratch_folder.h"
#include "tests/model/small_model.h"

namespace ferro {
namespace {

/// 100 million parameters, the largest tensor 8 % of them (3B: 8 %, 7B: 7 %).
ModelConfig medium_config() {
  ModelConfig config = testing::small_config(true);
  config.vision.out_hidden_size = config.text.hidden_size = 1024;
  config.text.vocab_size = 8192;
  config.text.intermediate_size = 4096;
  config.text.num_hidden_layers = 6;
  config.text.num_attention_heads = 8;
  config.text.mrope_section = {16, 24, 24};
  return config;
}

/// A line of /proc/self/status in bytes.
double status_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(key + ":")) return 1024.0 * std::stod(line.substr(key.size() + 1));
  FAIL("no " << key);
  return 0;
}

/// Largest growth of resident memory while `work` runs, mapped files included. Nothing: it cannot be
/// measured.
std::optional<double> peak_growth(const std::function<void()>& work) {
  ::malloc_trim(0);  // What earlier tests freed would be taken again without growth.
  std::ofstream reset("/proc/self/clear_refs");
  reset << "5" << std::flush;  // The peak starts again from what is resident now.
  if (!reset.good()) {
    std::cout << "FERRO_SKIPPED: the peak of resident memory cannot be reset here\n";
    return std::nullopt;
  }
  const double before = status_bytes("VmRSS");
  work();
  return status_bytes("VmHWM") - before;
}

TEST_CASE("loading takes less than 1.15 times the memory of the weights, from any dtype and layout") {
  const testing::ScratchFolder scratch;
  const ModelConfig config = medium_config();
  struct Case {
    const char* name;
    at::ScalarType file, memory;
    std::uint64_t shard;
    bool panels;
  };
  for (const Case& given :
       {Case{"float32 into panels", at::kFloat, at::kFloat, kDefaultShardBytes, true},
        Case{"bfloat16 into panels", at::kBFloat16, at::kFloat, kDefaultShardBytes, true},
        Case{"shards of float32 into plain", at::kFloat, at::kFloat, 50'000'000, false},
        Case{"float32 into bfloat16", at::kFloat, at::kBFloat16, kDefaultShardBytes, false}}) {
    write_random_model(scratch / "model", config,
                       {.seed = 1, .dtype = given.file, .max_shard_bytes = given.shard});
    Model model;
    const auto grown =
        peak_growth([&] { model = load_model(scratch / "model", false, given.panels, given.memory); });
    if (!grown) return;
    const auto weights = static_cast<double>(model.arena.weights.nbytes());
    std::cout << given.name << ": " << weights / 1e6 << " MB of weights, peak grew by " << *grown / weights
              << " of that\n";
    CHECK(weights > 2e8 * 0.99);
    CHECK(*grown < 1.15 * weights);
    CHECK(*grown > 0.9 * weights);
  }
}

TEST_CASE("drawing a random model takes memory for a few pieces of it, whatever its size") {
  const testing::ScratchFolder scratch;
  const auto grown = peak_growth(
      [&] { write_random_model(scratch / "model", medium_config(), {.seed = 1, .dtype = at::kFloat}); });
  if (!grown) return;
  std::cout << "400 MB of weights, peak grew by " << *grown / 1e6 << " MB\n";
  // At most 12 pieces ahead and one at either end, 2^22 values of 4 bytes each: 235 MB.
  CHECK(*grown < 260e6);
  CHECK(*grown > 16e6);  // One piece at least.
}

}  // namespace
}  // namespace ferro
