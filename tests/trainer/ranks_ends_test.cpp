#include "tests/trainer/ranks.h"

#include <fstream>
#include <initializer_list>
#include <stop_token>

namespace ferro {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::check_same_step;
using testing::differences;
using testing::kNoDifference;
using testing::make_cold_start;
using testing::on_ranks;
using testing::prompts_of;
using testing::RankEnd;
using testing::short_grpo;
using testing::short_sft;
using testing::TinyJob;
using testing::Train;
using testing::train_on_ranks;

/// A run on two ranks, killed after each of `steps`: two ranks go on to its bytes, one and three take the
/// same next step.
template <class Config>
void check_ranks_resume(const TinyJob& job, Config config, Train<Config> train,
                        std::initializer_list<std::int64_t> steps) {
  config.saving.save_steps = 1;
  config.saving.save_total_limit = 0;
  train_on_ranks(2, job, config, train);
  const fs::path whole = config.output_dir;
  config.saving.resume_from_checkpoint = "true";
  for (const std::int64_t step : steps) {
    const auto go_on = [&](int ranks) {
      const fs::path copy = fmt::format("{}_after_{}_on_{}", whole.string(), step, ranks);
      testing::copy_killed_run(whole, copy, step);
      config.output_dir = copy.string();
      train_on_ranks(ranks, job, config, train);
      return copy;
    };
    CHECK(differences(whole, go_on(2)) == kNoDifference);
    for (const int ranks : {1, 3}) {
      const fs::path copy = go_on(ranks);
      const auto at = [&](const fs::path& run, std::int64_t number) {
        return run / fmt::format("checkpoints/step-{:06d}/model", number);
      };
      check_same_step(at(whole, step), at(whole, step + 1), at(copy, step + 1));
      CHECK(read_file(copy / "set_aside.jsonl") == read_file(whole / "set_aside.jsonl"));
    }
  }
}

}  // namespace

TEST_CASE("what ends one rank ends all, with its message and code") {
  const TinyJob job;
  const auto loaders = job.environment.make_loader;
  for (const int failing : {0, 1}) {
    const auto ends = on_ranks(3, job.environment, [&](int rank, TrainEnvironment& environment) {
      environment.make_loader = [&loaders, rank, failing](const auto&... parts) {
        if (rank == failing) fail(ErrorCode::kOutOfMemory, "no room for pictures");
        return loaders(parts...);
      };
      train_sft(short_sft(job, "a" + std::to_string(failing), 2), environment);
    });
    for (const RankEnd& end : ends) {
      CHECK(end.code == ErrorCode::kOutOfMemory);
      CHECK_THAT(end.what, Catch::Contains("no room for pictures"));
    }
  }
}

TEST_CASE("early refusals are those of all ranks") {
  const TinyJob job;
  std::filesystem::create_directories(job.root() / "taken");
  std::ofstream(job.root() / "taken/thesis.txt") << "years of work";
  const auto taken = on_ranks(2, job.environment, [&](int, TrainEnvironment& environment) {
    train_sft(short_sft(job, "taken", 1), environment);
  });
  for (const RankEnd& end : taken) {
    CHECK(end.code == ErrorCode::kConfig);
    CHECK_THAT(end.what, Catch::Contains("taken is not empty"));
  }
  const auto settings = on_ranks(2, job.environment, [&](int rank, TrainEnvironment& environment) {
    SftConfig config = short_sft(job, "a", 1);
    config.optimizer.learning_rate = rank == 0 ? 1e-3 : 2e-3;
    train_sft(config, environment);
  });
  for (const RankEnd& end : settings) {
    CHECK(end.code == ErrorCode::kConfig);
    CHECK_THAT(end.what, Catch::Contains("optimizer.learning_rate differs between the ranks: rank 0 has "
                                         "`0.001`, rank 1 has `0.002`"));
  }
  CHECK_FALSE(std::filesystem::exists(job.root() / "a"));
}

TEST_CASE("when no row can be used every rank says so") {
  const TinyJob job;
  json rows = json::array();
  for (int i = 0; i < 6; ++i) {
    const std::string image = "broken_" + std::to_string(i) + ".png";
    std::ofstream(job.root() / image) << "x";
    rows.push_back({{"image_path", image}, {"question", "which?"}, {"response", "none"}});
  }
  write_file_atomically(job.root() / "broken.json", rows.dump());
  const auto ends = on_ranks(2, job.environment, [&](int, TrainEnvironment& environment) {
    SftConfig config = short_sft(job, "a", 4);
    config.data.train_file = (job.root() / "broken.json").string();
    config.data.eval_file.clear();
    train_sft(config, environment);
  });
  for (const RankEnd& end : ends) {
    CHECK(end.code == ErrorCode::kData);
    CHECK_THAT(end.what, Catch::Contains("not one of its 6 rows can be used"));
  }
}

TEST_CASE("told to stop, one rank stops all at the same step, and all go on to the same bytes") {
  const TinyJob job;
  SftConfig config = short_sft(job, "a", 3);
  train_on_ranks(2, job, config, &train_sft);
  config.output_dir = (job.root() / "b").string();
  config.saving.resume_from_checkpoint = "true";
  for (int start = 0; start < 2; ++start) {
    const auto ends = on_ranks(2, job.environment, [&](int rank, TrainEnvironment& environment) {
      std::stop_source source;
      if (rank == 1) source.request_stop();
      environment.stop = source.get_token();
      train_sft(config, environment);
    });
    for (const RankEnd& end : ends) CHECK(end.code == ErrorCode::kCheckpointed);
  }
  train_on_ranks(2, job, config, &train_sft);
  fs::remove_all(job.root() / "b/checkpoints");
  CHECK(differences(job.root() / "a", job.root() / "b") == kNoDifference);
}

TEST_CASE("SFT on ranks resumes to the same bytes on as many, and takes the same step on others") {
  const TinyJob job;
  check_ranks_resume(job, short_sft(job, "a", 5), &train_sft, {1, 3});
}

TEST_CASE("GRPO on ranks resumes to the same bytes on as many, and takes the same step on others") {
  const TinyJob job;
  make_cold_start(job);
  check_ranks_resume(job, short_grpo(job, "a", 3), &train_grpo, {1, 2});
  for (const int ranks : {1, 3})
    CHECK(prompts_of(job, "a", 3) == prompts_of(job, fmt::format("a_after_1_on_{}", ranks), 3));
}

}  // namespace ferro
