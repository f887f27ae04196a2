#include "trainer/rank_sums.h"

#include <cmath>
#include <thread>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "tests/trainer/tiny_model.h"
#include "trainer/gradient_norms.h"

namespace ferro {

TEST_CASE("metric sums of ranks that hold different names merge to the same on all") {
  std::vector<MetricSums> parts(3);
  add_to_mean(parts[0], "kl", 0.1, 3);
  keep_least(parts[0], "low", -2);
  add_to_mean(parts[1], "kl", 0.2, 4);
  add_to_mean(parts[1], "entropy", std::nan(""), 1);
  keep_least(parts[1], "low", -3);
  MetricSums expected;
  for (const MetricSums& part : parts) merge_sums(expected, part);

  auto world = make_thread_communicators(3);
  std::vector<MetricSums> got(3);
  {
    std::vector<std::jthread> threads;
    for (std::size_t rank = 0; rank < 3; ++rank)
      threads.emplace_back([&, rank] { got[rank] = sums_over_ranks(parts[rank], *world[rank]); });
  }
  for (std::size_t rank = 0; rank < 3; ++rank) {
    REQUIRE(got[rank].size() == expected.size());
    for (const auto& [name, value] : expected)
      CHECK((got[rank].at(name) == value || (std::isnan(value) && std::isnan(got[rank].at(name)))));
  }
}

TEST_CASE("gradient norms by stage add up to the whole gradient's") {
  Model model = testing::random_model(testing::tiny_config(), 1, true);
  model.arena.gradients.fill_(0.5);
  const auto norms = gradient_norms_by_stage(model.arena);
  CHECK(norms.size() == 5);
  double squares = 0;
  for (const char* stage : {"vision", "merger", "embedding", "decoder", "head"})
    squares += std::pow(norms.at(std::string("grad_norm/") + stage), 2);
  std::int64_t elements = 0;
  for (const ParameterInfo& parameter : model.arena.table.parameters) elements += parameter.size;
  CHECK(squares == Approx(0.25 * static_cast<double>(elements)));
  // The head holds the final norm alone where embeddings are tied: 64 weights of 0.5.
  CHECK(norms.at("grad_norm/head") == Approx(0.5 * 8));
}

}  // namespace ferro
