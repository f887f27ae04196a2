// The reference and training parts of one GRPO optimizer step, and one SFT step, against the matrix-product
// floor measured in the same run. Prints one line per measurement and, last, one JSON line a size.
// Usage: step_bench WORK_FOLDER... [threads=N] [reps=N] [budget=N] [rate=R] [part=grpo|sft]; each folder has
// config.json and work.json. `budget`: most tokens of a micro-batch of the GRPO step. `rate`, in GFLOP/s, is
// taken for the floor's instead of measuring one (to profile the steps alone). `part`: that step alone, so
// that the peak of memory is its own.
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/clock.h"
#include "core/error.h"
#include "core/process_memory.h"
#include "model/dist/communicator.h"
#include "model/kernels/kernels.h"
#include "tests/bench/bench_timing.h"
#include "tests/bench/panel_weights.h"
#include "tests/bench/step_work.h"
#include "trainer/grpo_step.h"
#include "trainer/policy_setup.h"
#include "trainer/sft_step.h"
#include "trainer/step_updater.h"

namespace ferro::bench {
namespace {

double peak_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024.0;
}

/// GFLOP/s of the fastest of MKL, oneDNN and the panel kernel on 1024 rows of SMALL's matrices.
double floor_rate() {
  struct Matrix {
    std::int64_t in, out;
  };
  double best = 0;
  for (const Matrix m : {Matrix{512, 768}, Matrix{512, 2816}, Matrix{1408, 512}, Matrix{512, 8192}}) {
    const at::NoGradGuard no_graph;
    const at::Tensor x = at::randn({1024, m.in}), weight = at::randn({m.out, m.in});
    const LinearWeights panels = panels_of(weight);
    const at::Tensor transposed = weight.t(), mkldnn_x = x.to_mkldnn();
    at::Tensor y = at::empty({1024, m.out});
    const double flops = 2.0 * 1024 * static_cast<double>(m.in * m.out);
    const std::map<std::string, double> seconds{
        {"panels", best_seconds(
                       false, [&] { linear(x, panels); }, 0.4)},
        {"mm", best_seconds(
                   false, [&] { at::mm_out(y, x, transposed); }, 0.4)},
        {"oneDNN", best_seconds(
                       false, [&] { at::mkldnn_linear(mkldnn_x, weight); }, 0.4)}};
    for (const auto& [name, time] : seconds) {
      fmt::print("rate  {:4} -> {:4}  {:7} {:7.1f} GFLOP/s\n", m.in, m.out, name, flops / time / 1e9);
      best = std::max(best, flops / time / 1e9);
    }
  }
  fmt::print("floor rate {:.1f} GFLOP/s\n", best);
  return best;
}

struct Times {
  std::vector<double> seconds;
  double least() const { return *std::min_element(seconds.begin(), seconds.end()); }
  double median() const {
    std::vector<double> sorted = seconds;
    std::sort(sorted.begin(), sorted.end());
    return sorted[sorted.size() / 2];
  }
};

struct Part {
  std::string name;
  Times times;
  double flops = 0;
};

class SizeBench {
 public:
  SizeBench(const std::string& folder, int reps, std::int64_t budget, std::string part)
      : work_(load_step_work(folder)), reps_(reps), budget_(budget), part_(std::move(part)) {}

  /// Measures; the peak of memory is the process's so far.
  void run() {
    if (part_ != "sft") grpo();
    if (part_ != "grpo") sft();
    peak_mib_ = peak_mib();
  }

  void report(double rate) const {
    nlohmann::ordered_json json{{"size", work_.name}, {"floor_gflops", rate}, {"peak_mib", peak_mib_}};
    for (const Part& part : parts_) {
      const double share = part.flops / rate / 1e9 / part.times.least();
      fmt::print("{:6} {:15} min {:8.4f} s  median {:8.4f} s  {:7.2f} GFLOP  share of the floor {:.3f}\n",
                 work_.name, part.name, part.times.least(), part.times.median(), part.flops / 1e9, share);
      json[part.name] = {{"min_s", part.times.least()},
                         {"median_s", part.times.median()},
                         {"gflop", part.flops / 1e9},
                         {"share_of_floor", share}};
    }
    fmt::print("{}\n", json.dump());
  }

 private:
  Model fresh(std::uint64_t seed, bool gradients) const {
    Model model{work_.config, ParameterArena::allocate(work_.config, true, gradients), {}};
    initialise(model.arena, model.config, seed);
    model.weights = bind_weights(model.config, model.arena);
    return model;
  }

  void grpo() {
    Model policy = fresh(1, true);
    const Model reference = fresh(2, false);
    PolicyLossConfig loss;
    loss.beta = 0.04;
    const auto groups = grpo_groups(work_);
    const std::vector<MicroBatch> micro_batches = pack_groups(groups, budget_);
    double forward = 0;
    for (const MicroBatch& micro : micro_batches) forward += forward_flops(work_.config, micro.batch);
    OptimizerConfig optimizer;
    optimizer.weight_decay = 0.01;
    optimizer.max_grad_norm = 5.0;
    const auto world = make_thread_communicators(1);
    StepUpdater updater(policy, optimizer, 1000, *world[0]);
    GrpoStep step(policy, &reference, loss, LayerWalk::Recompute::kNone, banned_ids_of(work_.config), 1.0);
    LossNormaliser normaliser{32, 32 * 64, static_cast<std::int64_t>(micro_batches.size())};
    const SystemClock clock;
    Times references, trains, both;
    for (int i = 0; i <= reps_; ++i) {
      std::vector<std::vector<AnswerState>> states(groups.size(), std::vector<AnswerState>(8));
      for (std::size_t g = 0; g < states.size(); ++g)
        for (std::size_t a = 0; a < 8; ++a) states[g][a].advantage = (g + a) % 2 == 0 ? 1.0 : -1.0;
      const double start = seconds_now(false);
      updater.zero_gradients();
      const GrpoStep::Outcome outcome = step.run(micro_batches, states, normaliser, false, clock);
      updater.apply(updater.reduce(outcome.loss, true));
      const double seconds = seconds_now(false) - start;
      if (i == 0) continue;  // Warm-up.
      references.seconds.push_back(outcome.reference_seconds);
      trains.seconds.push_back(seconds - outcome.reference_seconds);
      both.seconds.push_back(seconds);
    }
    parts_.push_back({"reference", references, forward});
    parts_.push_back({"train", trains, 3 * forward});
    parts_.push_back({"reference+train", both, 4 * forward});
  }

  void sft() {
    Model model = fresh(1, true);
    const std::vector<PackedBatch> batches{sft_batch(work_)};
    const auto world = make_thread_communicators(1);
    const SystemClock clock;
    OptimizerConfig optimizer;
    SftStep step(model, LayerWalk::Recompute::kNone, banned_ids_of(work_.config), optimizer, 1000, *world[0],
                 clock);
    Times times;
    for (int i = 0; i <= reps_; ++i) {
      const double start = seconds_now(false);
      SftStep::Outcome outcome = step.gradients(batches);
      step.apply(outcome);
      if (i > 0) times.seconds.push_back(seconds_now(false) - start);
    }
    parts_.push_back({"sft", times, 3 * forward_flops(work_.config, batches[0])});
  }

  StepWork work_;
  int reps_;
  std::int64_t budget_;
  std::string part_;  ///< Empty: both.
  std::vector<Part> parts_;
  double peak_mib_ = 0;
};

int run(const std::vector<std::string>& arguments) {
  std::vector<std::string> folders;
  std::string part;
  int reps = 5;
  double given_rate = 0;
  std::int64_t budget = 4096;
  for (const std::string& argument : arguments) {
    if (argument.starts_with("threads=")) {
      at::set_num_threads(std::stoi(argument.substr(8)));
    } else if (argument.starts_with("reps=")) {
      reps = std::max(1, std::stoi(argument.substr(5)));
    } else if (argument.starts_with("budget=")) {
      budget = std::stoll(argument.substr(7));
    } else if (argument.starts_with("part=")) {
      part = argument.substr(5);
    } else if (argument.starts_with("rate=")) {
      given_rate = std::stod(argument.substr(5));
    } else {
      folders.push_back(argument);
    }
  }
  if (folders.empty()) {
    fmt::print("FERRO_SKIPPED: name folders with config.json and work.json\n");
    return 0;
  }
  keep_freed_memory();
  at::manual_seed(1);
  fmt::print("{}, kernels {}, {} threads, load {}\n", processor_name(), kernels::best().name,
             at::get_num_threads(), load_average());
  std::vector<SizeBench> sizes;
  for (const std::string& folder : folders) sizes.emplace_back(folder, reps, budget, part).run();
  const double rate = given_rate > 0 ? given_rate : floor_rate();
  for (const SizeBench& size : sizes) size.report(rate);
  fmt::print("load {}\n", load_average());
  return 0;
}

}  // namespace
}  // namespace ferro::bench

int main(int argc, char** argv) {
  try {
    return ferro::bench::run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    fmt::print(stderr, "step_bench: {}\n", error.what());
    return 1;
  }
}
