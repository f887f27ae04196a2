#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "model/arena.h"
#include "model/aten.h"
#include "model/trained_parts.h"
#include "trainer/adamw_kernel.h"
#include "trainer/optimizer_config.h"
#include "trainer/quantised_moments.h"

namespace ferro {

/// Learning rate of step `step` (from 0) of `total_steps`. Same values as transformers.get_scheduler: step 0
/// of a warm-up has rate 0.
double learning_rate_at(const OptimizerConfig& config, std::int64_t step, std::int64_t total_steps);

/// Whether a parameter decays under `decay_parameters`.
bool parameter_decays(const ParameterInfo& parameter, const std::string& decay_parameters);

/// Steps that updated a part: those in which it had a gradient.
struct PartUpdates {
  std::int64_t vision = 0, merger = 0, language = 0;
  std::int64_t of(ModelPart part) const;
};

/// AdamW over flat buffers (torch.optim.AdamW's arithmetic). Rates and decay are ranges of the buffers. A
/// part without a gradient in a step is left as it is, moments and all, and the step does not count for its
/// bias correction, as torch does with a parameter whose `grad` is None. State exists for what is trained:
/// two moments in fp32, or in 8 bits (trainer/quantised_moments.h), which needs buffers in host memory. One
/// thread.
class AdamW {
 public:
  /// Everything in the table is trained.
  AdamW(const ArenaTable& table, const OptimizerConfig& config);
  /// `seed` keys the rounding of 8-bit moments.
  AdamW(const ArenaTable& table, const TrainedSet& trained, const OptimizerConfig& config,
        std::uint64_t seed);
  /// For one of several ranks, before the first step: moments exist for, and step() updates, the rank's slice
  /// of what is trained, with the bits it would have in the whole.
  void keep_slice(int rank, int ranks);
  /// Of the gradient buffer, in elements and blocks of 8-bit moments; everything unless keep_slice() was
  /// called.
  struct Slice {
    std::int64_t begin = 0, end = 0, block_begin = 0, block_end = 0;
  };
  const Slice& slice() const { return slice_; }
  /// Where the ranks' slices begin, and the end: [ranks + 1]. Blocks of 8-bit moments stay whole.
  std::vector<std::int64_t> slice_bounds(int ranks) const;
  /// Norm of all gradients (fp64 sum over blocks in order: same bits at any thread count).
  double gradient_norm(const at::Tensor& gradients) const;
  /// clip factor max_norm / (norm + 1e-6) when norm > max_norm, folded into the update; then one AdamW step
  /// at `learning_rate`; parts with a rate of their own take the same share of theirs. Parts outside
  /// `with_gradient` are skipped; a gradient that is there and zero is no reason to be.
  void step(at::Tensor& weights, const at::Tensor& gradients, double learning_rate, double gradient_norm,
            const TrainedParts& with_gradient = {});
  std::int64_t steps_done() const { return steps_done_; }  ///< Whatever they updated.
  const PartUpdates& updates() const { return updates_; }
  /// The moments of the slice in fp32, where the gradients lie; undefined before the first step.
  at::Tensor first_moment() const { return moment(true); }
  at::Tensor second_moment() const { return moment(false); }
  /// The moments as they lie in memory: fp32, or 8-bit codes with a scale per block. Undefined before the
  /// first step. They share the optimizer's memory.
  struct State {
    at::Tensor first_moment, second_moment;  ///< [elements of the slice]
    at::Tensor first_scale, second_scale;    ///< [blocks of the slice]; undefined with fp32.
  };
  State state() const { return {first_moment_, second_moment_, first_scale_, second_scale_}; }
  /// Memory for the moments beside `weights`, to be filled through state(): the optimizer then is as after
  /// `steps_done` steps, of which `updates` updated each part.
  void restore(std::int64_t steps_done, const PartUpdates& updates, const at::Tensor& weights);
  std::int64_t size() const { return size_; }      ///< Elements that are trained.
  std::int64_t blocks() const { return blocks_; }  ///< Of 8-bit moments.
  bool has_8_bit_moments() const { return int8_; }
  std::int64_t state_bytes() const;  ///< Of the moments; 0 before the first step.

 private:
  /// Neighbours in both buffers with the same settings.
  struct Range {
    std::int64_t weight_begin, gradient_begin, size;
    double rate_share, weight_decay;
    ModelPart part;
    std::int64_t first_block;  ///< Of 8-bit moments.
  };
  void add_range(const Range& range);
  std::int64_t blocks_before(std::int64_t element) const;
  void allocate_state(const at::Tensor& weights);
  at::Tensor moment(bool first) const;
  QuantisedMoments quantised(const Range& range, std::int64_t at) const;
  void step_range(const Range& range, at::Tensor& weights, const at::Tensor& gradients,
                  const AdamWFactors& factors);
  /// `updates`: of the part, this one included.
  AdamWFactors factors_at(double learning_rate, double gradient_norm, std::int64_t updates) const;

  OptimizerConfig config_;
  std::int64_t weights_size_, size_, blocks_ = 0;
  std::uint64_t seed_;
  bool int8_;
  std::vector<Range> ranges_;  ///< Of the slice.
  Slice slice_;
  at::Tensor first_moment_, second_moment_;
  at::Tensor first_scale_, second_scale_;  ///< Of 8-bit moments.
  std::int64_t steps_done_ = 0;
  PartUpdates updates_;
};

}  // namespace ferro
