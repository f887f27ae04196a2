#include "trainer/row_packing.h"

#include <catch2/catch.hpp>

#include "core/clock.h"
#include "tests/trainer/tiny_model.h"
#include "trainer/sft_step.h"

namespace ferro {
namespace {

std::vector<Sample> samples_of(const ModelConfig& config) {
  std::vector<Sample> samples;
  for (std::uint64_t i = 0; i < 7; ++i)
    samples.push_back({static_cast<std::int64_t>(i), testing::random_prompt(config, i, 4),
                       testing::random_answer(i, static_cast<std::int64_t>(3 + 5 * (i % 3)))});
  return samples;
}

std::vector<std::size_t> tokens_of(const std::vector<PackedBatch>& batches) {
  std::vector<std::size_t> counts;
  for (const PackedBatch& batch : batches) counts.push_back(batch.tokens.size());
  return counts;
}

}  // namespace

TEST_CASE("rows are packed in order, by rows or by tokens, a long row alone") {
  const ModelConfig config = testing::tiny_config();
  const auto samples = samples_of(config);
  // A prompt has 16 tokens (4 + start + 6 + end + 4); the answers have 3, 8, 13, 3, 8, 13, 3: rows of 19, 24,
  // 29, ...
  const auto pack = [&](RowPackingOptions options) {
    return tokens_of(pack_rows(samples, options, config.vision_tokens()));
  };
  CHECK(pack({.max_rows = 3}) == std::vector<std::size_t>{72, 72, 19});
  CHECK(pack({.max_tokens = 53}) == std::vector<std::size_t>{43, 48, 53, 19});
  CHECK(pack({.max_tokens = 10}) == std::vector<std::size_t>{19, 24, 29, 19, 24, 29, 19});
  CHECK(pack({.max_rows = 2, .max_tokens = 47}) == std::vector<std::size_t>{43, 29, 43, 29, 19});
  CHECK(pack({}) == std::vector<std::size_t>{163});
  CHECK(pack_rows({}, {}, config.vision_tokens()).empty());
}

TEST_CASE("how rows are packed changes neither loss nor gradient of the step") {
  const ModelConfig config = testing::tiny_config();
  const auto samples = samples_of(config);
  const auto world = make_thread_communicators(1);
  const SystemClock clock;
  const auto gradients = [&](RowPackingOptions options) {
    Model model = testing::random_model(config, 5, true);
    SftStep step(model, LayerWalk::Recompute::kNone, {192, 193}, {}, 4, *world[0], clock);
    const auto outcome = step.gradients(pack_rows(samples, options, config.vision_tokens()));
    return std::pair(outcome.reduced.loss, model.arena.gradients.clone());
  };
  const auto [loss, gradient] = gradients({.max_rows = 1});
  for (const std::int64_t tokens : {40, 80, 1000}) {
    const auto [other_loss, other] = gradients({.max_tokens = tokens});
    CHECK(other_loss == Approx(loss).epsilon(1e-6));
    CHECK((other - gradient).abs().max().item<double>() <= 1e-5 * gradient.abs().max().item<double>());
  }
}

}  // namespace ferro
