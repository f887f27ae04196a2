#include "rollout/engine.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <list>
#include <utility>
#include <vector>

#include "core/clock.h"
#include "core/error.h"
#include "data/packing.h"
#include "model/qwen.h"
#include "rollout/kv_cache.h"
#include "rollout/position_rotary.h"
#include "rollout/request_checks.h"
#include "rollout/row_allocator.h"
#include "rollout/sampler.h"

// Shapes: S running sequences, T packed prompt tokens, D width, V vocabulary.

namespace ferro {
namespace {

struct Group {
  RolloutRequest request;
  std::vector<Completion> completions;
  RowRegion prompt_rows;
  std::int32_t unfinished = 0;
};

struct Sequence {
  Group* group = nullptr;
  std::int32_t generation = 0;
  RowRegion rows;  ///< Of its own tokens.
  bool finished = false;

  Completion& completion() const { return group->completions[static_cast<std::size_t>(generation)]; }
  std::int32_t length() const { return static_cast<std::int32_t>(completion().token_ids.size()); }
};

std::int32_t checked_rows(const EngineOptions& options) {
  if (options.kv_cache_tokens < 1 || options.kv_cache_tokens > std::numeric_limits<std::int32_t>::max())
    fail(ErrorCode::kConfig, "kv_cache_tokens {} must be in [1, 2^31)", options.kv_cache_tokens);
  if (options.max_running_sequences < 1 || options.prefill_tokens < 1)
    fail(ErrorCode::kConfig, "max_running_sequences {} and prefill_tokens {} must be at least 1",
         options.max_running_sequences, options.prefill_tokens);
  return static_cast<std::int32_t>(options.kv_cache_tokens);
}

}  // namespace

struct RolloutEngine::Impl {
  Impl(const Model& model_in, const Tokenizer& tokenizer_in, EngineOptions options_in)
      : model(model_in),
        tokenizer(tokenizer_in),
        options(options_in),
        device(model.weights.embedding.weight.value.device()),
        allocator(checked_rows(options)),
        cache(model.config.text, options.kv_cache_tokens, device),
        attention(cache),
        rotary(model.config.text, device) {}

  bool step();
  std::vector<Sequence> admit(std::vector<Group*>& admitted);
  bool reserve(Group& group, std::vector<Sequence>& fresh);
  void prefill(const std::vector<Group*>& admitted, std::vector<Sequence> fresh);
  void decode();
  at::Tensor embed(const PackedBatch& batch) const;
  at::Tensor decoder(at::Tensor hidden_TD, const Rotary& tables);
  at::Tensor head_logits(const at::Tensor& hidden_ND) const;
  void sample(std::vector<Sequence>& sequences, const at::Tensor& logits_SV);
  void accept(Sequence& sequence, const SampledToken& token);
  void finish(Sequence& sequence, FinishReason reason);

  const Model& model;
  const Tokenizer& tokenizer;
  EngineOptions options;
  at::Device device;
  RowAllocator allocator;
  KvCache cache;
  CachedAttention attention;
  PositionRotary rotary;
  std::int64_t policy_version = 0;
  TokenSink on_token;
  LogitsSink on_logits;
  SystemClock clock;
  EngineStats stats;

  std::deque<RolloutRequest> waiting;
  std::list<Group> groups;        ///< Admitted, not finished: sequences point into it.
  std::vector<Sequence> running;  ///< In order of admission, so that a group's sequences, which share their
                                  ///< prompt's keys, are neighbours.
  std::deque<RolloutGroup> done;
  std::vector<std::int32_t> tokens, positions;  ///< [S] of the current step.
  std::vector<SamplingRow> sampling_rows;
};

bool RolloutEngine::Impl::step() {
  if (waiting.empty() && running.empty()) return false;
  const at::NoGradGuard no_grad;
  const Stopwatch prefill_time(clock);
  std::vector<Group*> admitted;
  std::vector<Sequence> fresh = admit(admitted);
  if (!admitted.empty()) {
    prefill(admitted, std::move(fresh));
    stats.prefill_seconds += prefill_time.seconds();
  }
  const Stopwatch decode_time(clock);
  if (!running.empty()) {
    decode();
    stats.decode_seconds += decode_time.seconds();
  }
  return true;
}

std::vector<Sequence> RolloutEngine::Impl::admit(std::vector<Group*>& admitted) {
  std::vector<Sequence> fresh;
  std::int64_t prompt_tokens = 0;
  while (!waiting.empty()) {
    const RolloutRequest& request = waiting.front();
    const auto length = static_cast<std::int64_t>(request.prompt->ids.size());
    if (!admitted.empty() && prompt_tokens + length > options.prefill_tokens) break;
    const auto sequences = static_cast<std::int64_t>(running.size() + fresh.size()) + request.num_generations;
    if (sequences > options.max_running_sequences) break;
    Group& group = groups.emplace_back();
    group.request = request;
    if (!reserve(group, fresh)) {
      groups.pop_back();
      break;
    }
    waiting.pop_front();
    admitted.push_back(&group);
    prompt_tokens += length;
  }
  FERRO_CHECK(!admitted.empty() || !running.empty(),
              "{} groups wait, nothing runs and none fits: {} of {} cache rows are free", waiting.size(),
              allocator.free_rows(), allocator.capacity());
  return fresh;
}

/// Rows for the prompt and for each answer, all or none.
bool RolloutEngine::Impl::reserve(Group& group, std::vector<Sequence>& fresh) {
  const RolloutRequest& request = group.request;
  const auto prompt_rows = allocator.allocate(static_cast<std::int32_t>(request.prompt->ids.size()));
  if (!prompt_rows) return false;
  const std::size_t before = fresh.size();
  for (std::int32_t generation = 0; generation < request.num_generations; ++generation) {
    const auto rows = allocator.allocate(answer_rows(request.sampling));
    if (!rows) {
      for (std::size_t i = before; i < fresh.size(); ++i) allocator.release(fresh[i].rows);
      allocator.release(*prompt_rows);
      fresh.resize(before);
      return false;
    }
    fresh.push_back({&group, generation, *rows});
  }
  group.prompt_rows = *prompt_rows;
  group.unfinished = request.num_generations;
  group.completions.resize(static_cast<std::size_t>(request.num_generations));
  for (Completion& completion : group.completions) completion.policy_version = policy_version;
  return true;
}

void RolloutEngine::Impl::prefill(const std::vector<Group*>& admitted, std::vector<Sequence> fresh) {
  BatchPacker packer;
  std::vector<std::int64_t>& rows = attention.rows();
  std::vector<AttentionSpan>& spans = attention.plan().spans;
  rows.clear();
  spans.clear();
  std::vector<std::int64_t> last_rows;
  for (const Group* group : admitted) {
    const auto begin = static_cast<std::int32_t>(packer.num_tokens());
    packer.add_prompt(*group->request.prompt);
    const auto end = static_cast<std::int32_t>(packer.num_tokens());
    const RowRegion& region = group->prompt_rows;
    spans.push_back({begin, end, 0, 0, region.begin, region.end()});
    for (std::int32_t row = region.begin; row < region.end(); ++row) rows.push_back(row);
    last_rows.push_back(end - 1);
  }
  const PackedBatch batch = packer.finish();
  stats.prompt_tokens += static_cast<std::int64_t>(batch.tokens.size());
  const at::Tensor hidden_TD =
      decoder(embed(batch), text_rotary(batch.position_ids, model.config.text, device));
  const at::Tensor last_ND = hidden_TD.index_select(0, at::tensor(last_rows, at::kLong).to(device));
  const at::Tensor logits_NV = head_logits(last_ND);

  // One head row a prompt; its G answers draw from copies of it.
  std::vector<std::int64_t> prompt_of_sequence;
  for (std::size_t i = 0; i < admitted.size(); ++i)
    prompt_of_sequence.insert(prompt_of_sequence.end(), admitted[i]->completions.size(),
                              static_cast<std::int64_t>(i));
  sample(fresh, logits_NV.index_select(0, at::tensor(prompt_of_sequence, at::kLong).to(device)));
  running.insert(running.end(), fresh.begin(), fresh.end());
}

void RolloutEngine::Impl::decode() {
  std::vector<std::int64_t>& rows = attention.rows();
  std::vector<AttentionSpan>& spans = attention.plan().spans;
  rows.clear();
  spans.clear();
  tokens.clear();
  positions.clear();
  for (const Sequence& sequence : running) {
    const std::int32_t fed = sequence.length() - 1;
    const auto query = static_cast<std::int32_t>(tokens.size());
    const RowRegion& prompt = sequence.group->prompt_rows;
    tokens.push_back(sequence.completion().token_ids.back());
    positions.push_back(sequence.group->request.prompt->positions.next + fed);
    rows.push_back(sequence.rows.begin + fed);
    spans.push_back(
        {query, query + 1, prompt.begin, prompt.end(), sequence.rows.begin, sequence.rows.begin + fed + 1});
  }
  const at::Tensor hidden_SD = decoder(embedding(tokens, model.weights.embedding), rotary.rows(positions));
  ++stats.decode_steps;
  sample(running, head_logits(hidden_SD));
}

at::Tensor RolloutEngine::Impl::embed(const PackedBatch& batch) const {
  at::Tensor features_MD;
  if (!batch.images.empty()) {
    std::vector<GridThw> grids;
    for (const PackedImage& packed : batch.images) grids.push_back(packed.image->grid);
    const VisionConfig& vision = model.config.vision;
    features_MD = vision_forward(model.weights, batch_pixels(batch.images, vision.patch_values(), device),
                                 vision_layout(grids, vision, device), vision);
  }
  return embed_with_images(model.weights.embedding, batch.tokens, batch.images, features_MD,
                           model.config.vision.spatial_merge_size);
}

at::Tensor RolloutEngine::Impl::decoder(at::Tensor hidden_TD, const Rotary& tables) {
  for (std::size_t i = 0; i < model.weights.decoder_blocks.size(); ++i) {
    attention.begin_layer(i);
    hidden_TD =
        decoder_block(model.weights.decoder_blocks[i], hidden_TD, tables, attention, model.config.text);
  }
  return hidden_TD;
}

at::Tensor RolloutEngine::Impl::head_logits(const at::Tensor& hidden_ND) const {
  return linear(rms_norm(hidden_ND, model.weights.final_norm, model.config.text.rms_norm_eps),
                model.weights.head);
}

/// The next token of each sequence; those that end leave the list.
void RolloutEngine::Impl::sample(std::vector<Sequence>& sequences, const at::Tensor& logits_SV) {
  if (on_logits) {
    const at::Tensor host_SV = logits_SV.cpu();
    const auto vocabulary = static_cast<std::size_t>(host_SV.size(1));
    for (std::size_t i = 0; i < sequences.size(); ++i)
      on_logits(sequences[i].group->request.sample_id, sequences[i].generation,
                {host_SV.const_data_ptr<float>() + i * vocabulary, vocabulary});
  }
  sampling_rows.clear();
  for (const Sequence& sequence : sequences) {
    const RolloutRequest& request = sequence.group->request;
    sampling_rows.push_back({&request.sampling, request.prompt->ids, sequence.completion().token_ids,
                             request.sample_id, request.epoch, sequence.generation, sequence.length()});
  }
  const std::vector<SampledToken> sampled = sample_rows(logits_SV, sampling_rows, options.seed);
  for (std::size_t i = 0; i < sequences.size(); ++i) accept(sequences[i], sampled[i]);
  std::erase_if(sequences, [](const Sequence& sequence) { return sequence.finished; });
}

void RolloutEngine::Impl::accept(Sequence& sequence, const SampledToken& token) {
  const RolloutRequest& request = sequence.group->request;
  Completion& completion = sequence.completion();
  completion.token_ids.push_back(token.id);
  completion.logprobs.push_back(token.logprob);
  ++stats.completion_tokens;
  if (on_token) on_token(request.sample_id, sequence.generation, token.id);
  const std::vector<std::int32_t>& stops = request.sampling.stop_ids;
  if (std::find(stops.begin(), stops.end(), token.id) != stops.end()) {
    finish(sequence, FinishReason::kStop);
  } else if (sequence.length() >= request.sampling.max_completion_length) {
    finish(sequence, FinishReason::kLength);
  }
}

void RolloutEngine::Impl::finish(Sequence& sequence, FinishReason reason) {
  Group& group = *sequence.group;
  Completion& completion = sequence.completion();
  completion.finish = reason;
  completion.text = tokenizer.decode(completion.token_ids, true);
  allocator.release(sequence.rows);
  sequence.finished = true;
  if (--group.unfinished > 0) return;
  allocator.release(group.prompt_rows);
  done.push_back({std::move(group.request), std::move(group.completions)});
  groups.remove_if([&](const Group& other) { return &other == &group; });
}

RolloutEngine::RolloutEngine(const Model& model, const Tokenizer& tokenizer, EngineOptions options)
    : impl_(std::make_unique<Impl>(model, tokenizer, options)) {}

RolloutEngine::~RolloutEngine() = default;

void RolloutEngine::submit(RolloutRequest request) {
  check_request(request, impl_->model.config, impl_->options);
  impl_->waiting.push_back(std::move(request));
}

std::optional<RolloutGroup> RolloutEngine::receive() {
  while (impl_->done.empty()) {
    if (!step()) return std::nullopt;
  }
  RolloutGroup group = std::move(impl_->done.front());
  impl_->done.pop_front();
  return group;
}

bool RolloutEngine::step() {
  return impl_->step();
}

void RolloutEngine::set_policy_version(std::int64_t version) {
  FERRO_CHECK(impl_->running.empty(), "policy version {} set while {} sequences run under {}", version,
              impl_->running.size(), impl_->policy_version);
  impl_->policy_version = version;
}

void RolloutEngine::set_token_sink(TokenSink sink) {
  impl_->on_token = std::move(sink);
}
void RolloutEngine::set_logits_sink(LogitsSink sink) {
  impl_->on_logits = std::move(sink);
}
const EngineStats& RolloutEngine::stats() const {
  return impl_->stats;
}

}  // namespace ferro
