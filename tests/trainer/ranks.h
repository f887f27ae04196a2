#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "model/dist/communicator.h"
#include "model/model_folder.h"
#include "tests/trainer/resume_job.h"
#include "trainer/train.h"

namespace ferro::testing {

/// How a rank ended.
struct RankEnd {
  std::optional<ErrorCode> code;  ///< Empty: well.
  std::string what;
};

/// Runs `job` on every rank of a world of threads, each with its own copy of `environment`.
inline std::vector<RankEnd> on_ranks(int ranks, const TrainEnvironment& environment,
                                     const std::function<void(int rank, TrainEnvironment& own)>& job) {
  const auto world = make_thread_communicators(ranks);
  std::vector<RankEnd> ends(world.size());
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      const auto r = static_cast<std::size_t>(rank);
      TrainEnvironment own = environment;
      own.ranks = world[r].get();
      try {
        job(rank, own);
      } catch (const Error& error) {
        ends[r] = {error.code(), error.what()};
      }
    });
  threads.clear();
  return ends;
}

inline const std::set<std::string> kNoDifference;

template <class Config>
using Train = void (*)(const Config&, const TrainEnvironment&);

template <class Config>
void train_on_ranks(int ranks, const TinyJob& job, const Config& config, Train<Config> train) {
  const auto ends = on_ranks(ranks, job.environment,
                             [&](int, TrainEnvironment& environment) { train(config, environment); });
  for (const RankEnd& end : ends) {
    INFO(end.what);
    CHECK_FALSE(end.code.has_value());
  }
}

inline at::Tensor weights_of(const std::filesystem::path& folder) {
  return load_model(folder, false).arena.weights.to(at::kDouble);
}

/// Two steps from the same weights are the same but for the order of fp32 sums: the bounds of the golden
/// training files.
inline void check_same_step(const std::filesystem::path& start, const std::filesystem::path& a,
                            const std::filesystem::path& b) {
  const at::Tensor from = weights_of(start), left = weights_of(a) - from, right = weights_of(b) - from;
  const double largest = left.abs().max().item<double>();
  REQUIRE(largest > 0);
  CHECK(left.dot(right).item<double>() / (left.norm() * right.norm()).item<double>() >= 0.9995);
  CHECK((left - right).abs().max().item<double>() <= 0.25 * largest);
}

inline void check_same_metrics(const TinyJob& job, const std::string& a, const std::string& b,
                               std::size_t lines) {
  const auto left = lines_of(job.read(a + "/metrics.jsonl")),
             right = lines_of(job.read(b + "/metrics.jsonl"));
  REQUIRE(left.size() == right.size());
  REQUIRE(left.size() >= lines);
  for (std::size_t i = 0; i < lines; ++i) {
    CHECK(left[i].size() == right[i].size());
    for (const auto& [name, value] : left[i].items()) {
      INFO(name << " of line " << i);
      REQUIRE(right[i].contains(name));
      if (value.is_null() || right[i].at(name).is_null()) {
        CHECK(value == right[i].at(name));
        continue;
      }
      const double x = value.get<double>(), y = right[i].at(name).get<double>();
      const double bound = name == "loss" ? 2e-6 : 1e-5 + 1e-4 * std::abs(x);
      CHECK(std::abs(x - y) <= bound);
    }
  }
}

/// Rows of each step, as the rollout files name them.
inline std::vector<std::vector<std::int64_t>> prompts_of(const TinyJob& job, const std::string& run,
                                                         int steps) {
  std::vector<std::vector<std::int64_t>> prompts;
  for (int step = 1; step <= steps; ++step) {
    auto& own = prompts.emplace_back();
    for (const nlohmann::json& line :
         lines_of(job.read(fmt::format("{}/rollouts/step-{:06d}.jsonl", run, step))))
      if (line.at("generation") == 0) own.push_back(line.at("sample_id").get<std::int64_t>());
  }
  return prompts;
}

inline SftConfig short_sft(const TinyJob& job, const std::string& name, std::int64_t steps) {
  SftConfig config = job.sft(name);
  config.max_steps = steps;
  config.optimizer.lr_scheduler_type = "constant";
  return config;
}

inline GrpoConfig short_grpo(const TinyJob& job, const std::string& name, std::int64_t steps) {
  GrpoConfig config = job.grpo(name, "cold/model");
  config.max_steps = steps;
  config.prompts_per_step = 8;
  config.max_completion_length = 32;
  config.save_rollouts_steps = 1;
  config.optimizer.lr_scheduler_type = "constant";
  return config;
}

/// A model whose answers differ in their rewards.
inline void make_cold_start(const TinyJob& job) {
  SftConfig config = job.sft("cold");
  config.num_train_epochs = 16;
  config.data.eval_file.clear();
  train_sft(config, job.environment);
}

}  // namespace ferro::testing
