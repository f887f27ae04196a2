#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "model/model_folder.h"
#include "trainer/group_packing.h"

namespace ferro::bench {

/// The work of one benchmark size: a model's shape and the prompts that every step uses.
struct StepWork {
  std::string name;
  ModelConfig config;
  std::vector<std::shared_ptr<const Prompt>> prompts;  ///< 4, each with its own picture of noise.
};

/// Reads config.json and work.json (prompt_ids, grid_thw) of `folder`.
StepWork load_step_work(const std::filesystem::path& folder);

/// 4 groups of 8 answers of 64 random tokens, in one micro-batch.
std::vector<AnsweredPrompt> grpo_groups(const StepWork& work);
/// 4 rows of 256 tokens, prompt included; loss on the answers.
PackedBatch sft_batch(const StepWork& work);

/// Multiply-adds of the matrix products of one forward pass, times two: linear layers alone, no attention.
double forward_flops(const ModelConfig& config, const PackedBatch& batch);

}  // namespace ferro::bench
