#include "trainer/memory_plan.h"

#include <algorithm>

#include <fmt/format.h>

#include "model/arena.h"
#include "model/lora.h"
#include "trainer/chunked_head.h"
#include "trainer/quantised_moments.h"

namespace ferro {
namespace {

constexpr std::int64_t kFloat = 4;
/// Kept and passing tensors alternate on the heap, and what a passing one leaves is often too small for the
/// next. A quarter of what is kept, a third with an adapter's many small ones (measured:
/// tests/bench/plan_bench).
std::int64_t holes(std::int64_t kept, const PlanSettings& s) {
  return kept / (s.lora.enabled() ? 3 : 4);
}

/// What of the arenas a run holds, in elements.
struct ArenaSizes {
  std::int64_t weights = 0, adapter = 0, trained = 0, moments_blocks = 0, largest_parameter = 0;
};

ArenaSizes arena_sizes(const ModelConfig& config, const PlanSettings& s) {
  const ArenaTable table = ArenaTable::make(config, true);
  ArenaSizes sizes;
  sizes.weights = table.size;
  for (const ParameterInfo& info : table.parameters)
    sizes.largest_parameter = std::max(sizes.largest_parameter, info.size);
  ArenaTable trained_table = table;
  TrainedSet trained = TrainedSet::make(
      table, [&](const ParameterInfo& info) { return s.train.contains(part_of(info.name)); });
  if (s.lora.enabled()) {
    trained_table = lora_table(table, s.lora, s.train);
    trained = TrainedSet::all(trained_table);
    sizes.adapter = trained_table.size;
  }
  sizes.trained = trained.size;
  for (std::size_t i = 0; i < trained_table.parameters.size(); ++i)
    if (trained.offsets[i] >= 0)
      sizes.moments_blocks += (trained_table.parameters[i].size + kQuantisedBlock - 1) / kQuantisedBlock;
  return sizes;
}

/// Floats per row of a block: what its graph keeps beside its input, what backward needs on top, what a pass
/// without a graph takes.
struct BlockRow {
  std::int64_t input = 0, kept = 0, backward = 0, pass = 0;
};

/// `adapted`: its layers have adapters; then its operations run one by one and keep their inputs. Without,
/// norms and gates are computed again (model/block_ops.h).
BlockRow decoder_row(const TextConfig& t, bool adapted) {
  const std::int64_t d = t.hidden_size, f = t.intermediate_size, q = t.num_attention_heads * t.head_dim(),
                     k = t.num_key_value_heads * t.head_dim();
  BlockRow row;
  row.input = d;
  // Rotated q and k, v, attention's output and its two statistics, the residual, gate and up, inverse norms;
  // for adapted layers both normed inputs and down's.
  row.kept = 2 * q + 2 * k + 2 * t.num_attention_heads + d + 2 * f + 2 + (adapted ? 2 * d + f : 0);
  row.backward = (adapted ? 2 * f : f) + 3 * d;
  row.pass = std::max(3 * d + 2 * q + 3 * k, adapted ? 3 * d + 3 * f : 0);
  return row;
}

BlockRow vision_row(const VisionConfig& v, bool adapted) {
  const std::int64_t d = v.hidden_size, f = v.intermediate_size;
  BlockRow row;
  row.input = d;
  row.kept = 4 * d + 2 * v.num_heads + d + 2 * f + 2 + (adapted ? 2 * d + f : 0);
  row.backward = (adapted ? 2 * f : f) + 3 * d;
  row.pass = std::max(8 * d, adapted ? 3 * d + 3 * f : 0);
  return row;
}

/// Per patch: the merger's width is that of its patches side by side.
BlockRow merger_row(const VisionConfig& v, bool keeps) {
  BlockRow row;
  row.input = v.hidden_size;
  row.kept = v.hidden_size + 1 + (keeps ? 2 * v.hidden_size : 0);
  row.backward = 3 * v.hidden_size;
  row.pass = 3 * v.hidden_size;
  return row;
}

/// How low backward reaches, as LayerWalk has it.
struct Reach {
  bool vision = false, merger = false, decoder = false;
};

Reach reach_of(const PlanSettings& s) {
  Reach reach;
  reach.vision = s.train.vision;
  reach.merger = reach.vision || s.train.merger;
  reach.decoder = true;
  return reach;
}

class Activations {
 public:
  Activations(const ModelConfig& config, const PlanSettings& settings)
      : config_(config),
        s_(settings),
        reach_(reach_of(settings)),
        decoder_(decoder_row(config.text, settings.train.language && settings.lora.enabled())),
        vision_(vision_row(config.vision, settings.train.vision && settings.lora.enabled())),
        merger_(merger_row(config.vision, settings.train.merger)) {
    // An adapted layer keeps its input times A: at most seven layers of a decoder block, five of a vision
    // block.
    if (!settings.lora.enabled()) return;
    if (settings.train.language) decoder_.kept += 7 * settings.lora.r;
    if (settings.train.vision) vision_.kept += 5 * settings.lora.r;
  }

  /// Kept from forward to backward.
  std::int64_t kept() const {
    const std::int64_t graph = s_.recompute ? 0 : 1, tokens = s_.tokens,
                       patches = patches_of(s_.image_tokens);
    const VisionConfig& v = config_.vision;
    std::int64_t floats = tables(tokens, patches);
    floats += config_.text.num_hidden_layers * tokens * (decoder_.input + graph * decoder_.kept);
    floats += tokens * decoder_.input;  // The final norm's.
    if (reach_.vision)
      floats += patches * (v.depth * (vision_.input + graph * vision_.kept) + v.patch_values());
    if (reach_.merger) floats += patches * (merger_.input + graph * merger_.kept);
    return floats * kFloat;
  }
  /// On top of it, at the worst moment of forward or backward.
  std::int64_t moment() const {
    const std::int64_t patches = patches_of(s_.image_tokens);
    std::int64_t decoder = s_.tokens * (decoder_.backward + (s_.recompute ? decoder_.kept : 0));
    std::int64_t vision = 0;
    if (reach_.vision) {
      vision = patches * (vision_.backward + (s_.recompute ? vision_.kept : 0)) - released();
    } else {
      vision = patches * (vision_.pass + config_.vision.patch_values()) - s_.tokens * decoder_.input;
    }
    return std::max(decoder, vision) * kFloat;
  }
  /// A pass that keeps nothing.
  std::int64_t pass(std::int64_t tokens, std::int64_t image_tokens) const {
    const std::int64_t patches = patches_of(image_tokens);
    return std::max(tables(tokens, 0) + tokens * decoder_.pass,
                    tables(0, patches) + patches * (vision_.pass + 2 * config_.vision.patch_values())) *
           kFloat;
  }
  std::int64_t patches_of(std::int64_t image_tokens) const {
    const std::int64_t merge = config_.vision.spatial_merge_size;
    return image_tokens * merge * merge;
  }

 private:
  /// When the vision tower's backward begins, the decoder's graph is gone.
  std::int64_t released() const {
    const std::int64_t graph = s_.recompute ? 0 : 1;
    return config_.text.num_hidden_layers * s_.tokens * (decoder_.input + graph * decoder_.kept);
  }
  std::int64_t tables(std::int64_t tokens, std::int64_t patches) const {
    return 2 * tokens * config_.text.head_dim() + 2 * patches * config_.vision.head_dim();
  }
  const ModelConfig& config_;
  const PlanSettings& s_;
  Reach reach_;
  BlockRow decoder_, vision_, merger_;
};

/// Logits of one chunk, never more than kChunkRows rows of them; hidden states' gradient beside it.
std::int64_t head_bytes(const ModelConfig& config, const PlanSettings& s) {
  const std::int64_t vocabulary = config.text.vocab_size;
  const std::int64_t chunk = std::min(ChunkedHead::kChunkRows, s.targets) * vocabulary;
  std::int64_t floats = chunk + 2 * s.tokens * config.text.hidden_size;
  if (s.grouped) {
    // What is kept holds whole chunks, and the gradient of logits takes the place of probabilities.
    const std::int64_t all = s.targets * vocabulary,
                       kept = ChunkedHead::kKeptFloats / std::max<std::int64_t>(1, chunk) * chunk;
    floats += std::min(all - chunk, kept);
  }
  if (s.entropy_gradient) floats += 2 * chunk;
  return floats * kFloat;
}

std::int64_t cache_bytes(const TextConfig& t, std::int64_t rows) {
  return rows * t.num_hidden_layers * 2 * t.num_key_value_heads * t.head_dim() * kFloat;
}

/// Logits of all running sequences and the sampler's copy.
std::int64_t sampling_bytes(const ModelConfig& config, std::int64_t sequences) {
  return 2 * sequences * config.text.vocab_size * kFloat;
}

std::string bytes_text(std::int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes >= std::int64_t{1} << 30) return fmt::format("{:8.2f} GiB", value / (1 << 30));
  return fmt::format("{:8.2f} MiB", value / (1 << 20));
}

void append(std::string& text, const std::vector<MemoryPlan::Line>& lines) {
  for (const MemoryPlan::Line& line : lines)
    text += fmt::format("  {:<34}{}\n", line.name, bytes_text(line.bytes));
}

std::int64_t sum(const std::vector<MemoryPlan::Line>& lines) {
  std::int64_t total = 0;
  for (const MemoryPlan::Line& line : lines) total += line.bytes;
  return total;
}

}  // namespace

std::int64_t MemoryPlan::peak() const {
  std::int64_t most = 0;
  for (const Line& phase : phases) most = std::max(most, phase.bytes);
  return sum(lasting) + most;
}

MemoryPlan plan_memory(const ModelConfig& config, const PlanSettings& s) {
  const ArenaSizes sizes = arena_sizes(config, s);
  const Activations activations(config, s);
  MemoryPlan plan;
  plan.lasting = {
      {"weights", sizes.weights * kFloat},
      {"adapter", sizes.adapter * kFloat},
      {"gradients", sizes.trained * kFloat},
      {"optimizer", (s.state_dtype == "int8" ? 2 * sizes.trained + 2 * kFloat * sizes.moments_blocks
                                             : 2 * sizes.trained * kFloat) /
                        s.optimizer_ranks},
      {"reference", s.second_model ? sizes.weights * kFloat : 0},
      {"key/value cache", cache_bytes(config.text, s.cache_rows)},
      {"prompts ahead",
       activations.patches_of(s.prefetched_image_tokens) * config.vision.patch_values() * kFloat},
      {"tensor on its way to a file", sizes.largest_parameter * kFloat}};
  const std::int64_t kept = activations.kept();
  plan.parts = {{"activations", kept},
                {"holes between them", holes(kept, s)},
                {"head", head_bytes(config, s)},
                {"backward", activations.moment()}};
  const std::int64_t training = kept + holes(kept, s) + std::max(plan.parts[2].bytes, plan.parts[3].bytes);
  plan.phases = {{"training step", training}};
  if (s.sequences > 0)
    plan.phases.push_back({"sampling", std::max(activations.pass(s.prefill_tokens, s.prefill_image_tokens),
                                                sampling_bytes(config, s.sequences))});
  if (s.eval_sequences > 0)
    plan.phases.push_back(
        {"evaluation", cache_bytes(config.text, s.eval_cache_rows) +
                           std::max(activations.pass(s.eval_prefill_tokens, s.eval_prefill_image_tokens),
                                    sampling_bytes(config, s.eval_sequences))});
  return plan;
}

std::string describe_plan(const MemoryPlan& plan, const PlanSettings& s, std::int64_t world_size) {
  std::string text = fmt::format(
      "A micro-batch of {} tokens ({} images of together {} tokens), {} of them with a loss; recompute: "
      "{}\n\n"
      "Held throughout\n",
      s.tokens, s.images, s.image_tokens, s.targets, s.recompute ? "full" : "none");
  append(text, plan.lasting);
  text += "One of these on top\n";
  append(text, plan.phases);
  text += "A training step: activations with the holes, and the larger of the other two\n";
  append(text, plan.parts);
  text += fmt::format("\nPeak of a process                   {}\n", bytes_text(plan.peak()));
  if (world_size > 1)
    text += fmt::format("{} processes, each with {} {}\n", world_size,
                        s.optimizer_ranks > 1 ? "its moments  " : "a whole copy",
                        bytes_text(world_size * plan.peak()));
  return text + "Beside what the program itself takes: libraries, data rows, pictures in the image cache.\n";
}

}  // namespace ferro
