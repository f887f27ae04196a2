#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "core/process_memory.h"
#include "tests/trainer/tiny_job.h"
#include "trainer/memory_plan.h"
#include "trainer/policy_setup.h"

// The memory plan against what a run uses: SFT and GRPO jobs of three sizes, each in a process of its own,
// compare the peak of its resident memory, above what it had before the model, with the plan's. Fails where
// the two are more than 10 % apart.

namespace ferro {
namespace {

constexpr double kTolerance = 0.10;

struct Case {
  const char* name;
  std::int64_t width, inner, layers, vocabulary;
  bool grpo;
  void (*adjust)(SftConfig&, GrpoConfig&);
};

void plain(SftConfig&, GrpoConfig&) {}
void recomputed(SftConfig& sft, GrpoConfig& grpo) {
  sft.recompute = grpo.recompute = "full";
}
void frozen_vision(SftConfig& sft, GrpoConfig& grpo) {
  sft.train.vision = grpo.train.vision = false;
}
void low_rank(SftConfig& sft, GrpoConfig& grpo) {
  sft.lora.r = grpo.lora.r = 32;
}
void eight_bits(SftConfig& sft, GrpoConfig& grpo) {
  sft.optimizer.state_dtype = grpo.optimizer.state_dtype = "int8";
}

constexpr Case kCases[] = {
    {"SFT small", 256, 768, 4, 4000, false, plain},
    {"SFT medium", 384, 1152, 8, 12000, false, plain},
    {"SFT large", 512, 2048, 12, 30000, false, plain},
    {"SFT large, recompute", 512, 2048, 12, 30000, false, recomputed},
    {"SFT large, vision frozen", 512, 2048, 12, 30000, false, frozen_vision},
    {"SFT large, LoRA", 512, 2048, 12, 30000, false, low_rank},
    {"SFT large, 8-bit moments", 512, 2048, 12, 30000, false, eight_bits},
    {"GRPO small", 256, 768, 4, 4000, true, plain},
    {"GRPO medium", 384, 1152, 8, 12000, true, plain},
    {"GRPO large", 512, 2048, 12, 30000, true, plain},
    {"GRPO large, LoRA", 512, 2048, 12, 30000, true, low_rank},
};

ModelConfig shape_of(const Case& c) {
  ModelConfig config = testing::tiny_config();
  config.vision.depth = 4;
  config.vision.hidden_size = c.width / 2;
  config.vision.intermediate_size = c.inner / 2;
  config.vision.num_heads = 4;
  config.vision.patch_size = 14;
  config.vision.out_hidden_size = c.width;
  config.vision.window_size = 112;
  config.text.hidden_size = c.width;
  config.text.intermediate_size = c.inner;
  config.text.num_hidden_layers = c.layers;
  config.text.num_attention_heads = c.width / 64;
  config.text.num_key_value_heads = c.width / 128;
  config.text.mrope_section = {8, 12, 12};
  config.text.vocab_size = c.vocabulary;
  return config;
}

std::int64_t status_bytes(const char* key) {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(key)) return std::stoll(line.substr(line.find(':') + 1)) * 1024;
  return 0;
}

RowShape rows_of(const std::string& model, const ModelConfig& shape, const DataConfig& data,
                 const TrainEnvironment& environment, std::int64_t longest_answer) {
  const PromptSource source(model, shape, data, {}, environment);
  const Dataset rows = read_dataset(data.train_file, detect_row_kind(data.train_file), {});
  const auto prompt = source.prompts().build(rows.rows.front(), nullptr);
  RowShape shape_of_rows;
  shape_of_rows.prompt = static_cast<std::int64_t>(prompt->ids.size());
  shape_of_rows.image = prompt->images.front()->grid.patches() / 4;
  shape_of_rows.answer =
      rows.rows.front().response.empty()
          ? longest_answer
          : static_cast<std::int64_t>(source.prompts().encode_answer(rows.rows.front().response).size());
  return shape_of_rows;
}

/// Prints one line; whether plan and peak agree.
bool run(const Case& c, bool details) {
  keep_freed_memory();
  testing::TinyJob warm_up;  // Libraries, threads, the allocator.
  auto first = warm_up.sft("a");
  first.max_steps = 1;
  train_sft(first, warm_up.environment);

  const ModelConfig shape = shape_of(c);
  const testing::TinyJob job(shape, 8);
  SftConfig sft = job.sft("a");
  sft.max_steps = 3;
  sft.per_device_train_batch_size = 12;
  sft.gradient_accumulation_steps = 1;
  sft.data.eval_file.clear();
  GrpoConfig grpo = job.grpo("a", "base");
  grpo.max_steps = 2;
  grpo.prompts_per_step = 6;
  grpo.num_generations = 8;
  grpo.max_completion_length = 48;
  grpo.max_tokens_per_micro_batch = 1500;
  c.adjust(sft, grpo);
  const std::string model = (job.root() / "base").string();
  const ModelConfig written = ModelConfig::load(job.root() / "base/config.json");
  const PlanSettings settings =
      c.grpo ? plan_settings(grpo,
                             rows_of(model, written, grpo.data, job.environment, grpo.max_completion_length))
             : plan_settings(sft, rows_of(model, written, sft.data, job.environment, 0));
  const MemoryPlan plan = plan_memory(written, settings);
  const std::int64_t planned = plan.peak();
  if (details) std::printf("%s\n", describe_plan(plan, settings, 1).c_str());

  ::malloc_trim(0);                               // What making the model's folder left behind.
  std::ofstream("/proc/self/clear_refs") << "5";  // The peak begins anew.
  const std::int64_t before = status_bytes("VmRSS");
  if (c.grpo) {
    train_grpo(grpo, job.environment);
  } else {
    train_sft(sft, job.environment);
  }
  const std::int64_t used = status_bytes("VmHWM") - before;
  const double ratio = static_cast<double>(planned) / static_cast<double>(used);
  std::printf("%-26s weights %6.1f MB   plan %7.1f MB   used %7.1f MB   plan / used %.3f\n", c.name,
              static_cast<double>(ArenaTable::make(written, true).size) * 4e-6,
              static_cast<double>(planned) * 1e-6, static_cast<double>(used) * 1e-6, ratio);
  return std::abs(ratio - 1) <= kTolerance;
}

}  // namespace
}  // namespace ferro

int main(int argc, char** argv) {
  // `plan_bench 3`: one case with its plan.
  if (argc >= 2) return ferro::run(ferro::kCases[std::stoul(argv[1])], argc == 2) ? 0 : 1;
  int failures = 0;
  for (std::size_t i = 0; i < std::size(ferro::kCases); ++i) {
    std::fflush(stdout);
    const pid_t child = ::fork();
    if (child == 0) {
      const std::string index = std::to_string(i);
      ::execl("/proc/self/exe", argv[0], index.c_str(), "brief", nullptr);
      ::_exit(127);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    failures += WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 1;
  }
  std::printf("%d of %zu plans are more than 10 %% away\n", failures, std::size(ferro::kCases));
  return failures == 0 ? 0 : 1;
}
