#include "trainer/pass_rates.h"

#include <fstream>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "trainer/state_json.h"

namespace ferro {

PassRates::PassRates(CurriculumConfig config) : config_(std::move(config)) {
  if (!config_.pass_rates_file.empty()) read(config_.pass_rates_file);
}

void PassRates::read(const std::filesystem::path& file) {
  std::ifstream in(file);
  if (!in) fail(ErrorCode::kIo, "curriculum.pass_rates_file {} cannot be read", file.string());
  std::int64_t number = 0;
  for (std::string text; std::getline(in, text);) {
    ++number;
    if (text.empty()) continue;
    const auto line = nlohmann::json::parse(text, nullptr, false);
    const bool fits = line.is_object() && line.contains("row") && line["row"].is_number_integer() &&
                      line.contains("pass_rate") && line["pass_rate"].is_number() && line["pass_rate"] >= 0 &&
                      line["pass_rate"] <= 1;
    if (!fits)
      fail(ErrorCode::kData, "{}:{}: not {{\"row\": integer, \"pass_rate\": 0 to 1}}", file.string(), number);
    rates_[line["row"].get<std::int64_t>()] = {0, line["pass_rate"].get<double>()};
  }
}

nlohmann::json PassRates::state() const {
  nlohmann::json state = nlohmann::json::array();
  if (!config_.pass_rates_file.empty()) return state;
  for (const auto& [id, rate] : rates_) state.push_back({id, rate.epoch, json_of(rate.rate)});
  return state;
}

void PassRates::restore(const nlohmann::json& state) {
  for (const nlohmann::json& entry : state)
    rates_[entry.at(0).get<std::int64_t>()] = {entry.at(1).get<std::int64_t>(), number_of(entry.at(2))};
}

std::string PassRates::why_not(std::int64_t id, std::int64_t epoch) const {
  const auto at = rates_.find(id);
  if (!config_.filters() || at == rates_.end()) return "";
  if (config_.pass_rates_file.empty() && at->second.epoch + 1 != epoch) return "";
  if (at->second.rate < config_.min_pass_rate) return "too_hard";
  if (at->second.rate > config_.max_pass_rate) return "too_easy";
  return "";
}

double PassRates::note(std::int64_t id, const JudgedGroup& group) {
  double sum = 0, count = 0;
  for (const auto& value : group.values.at(0)) {
    if (!value) continue;
    sum += *value;
    count += 1;
  }
  const double rate = count == 0 ? 0 : sum / count;
  if (config_.pass_rates_file.empty()) rates_[id] = {group.rollout.request.epoch, rate};
  return rate;
}

}  // namespace ferro
