#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "trainer/curriculum_config.h"
#include "trainer/rollout_batch.h"

namespace ferro {

/// How often each row was answered right, and which rows are therefore passed over. One thread.
class PassRates {
 public:
  /// Reads config.pass_rates_file where it is named. Error{kIo}: it cannot be read; Error{kData}: a line that
  /// is not {"row": integer, "pass_rate": number from 0 to 1}, named.
  explicit PassRates(CurriculumConfig config);

  /// "" where row `id` is to be used in `epoch`, else "too_hard" or "too_easy": its rate in the file, or in
  /// the epoch before, lies outside the limits.
  std::string why_not(std::int64_t id, std::int64_t epoch) const;
  double rate(std::int64_t id) const { return rates_.at(id).rate; }
  /// Notes a judged group of row `id` and returns its rate: the mean of its first function's values, 0 where
  /// there is none.
  double note(std::int64_t id, const JudgedGroup& group);
  nlohmann::json state() const;  ///< What restore() takes: the rates that no file holds.
  void restore(const nlohmann::json& state);

 private:
  struct Rate {
    std::int64_t epoch = 0;
    double rate = 0;
  };
  void read(const std::filesystem::path& file);

  CurriculumConfig config_;
  std::map<std::int64_t, Rate> rates_;
};

}  // namespace ferro
